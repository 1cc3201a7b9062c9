// The backend "cuda": matrices in host memory, quantized on the current GPU.
#pragma once

#include "ufp4/backend.h"

namespace ufp4::cuda {

const Backend& backend();

}  // namespace ufp4::cuda
