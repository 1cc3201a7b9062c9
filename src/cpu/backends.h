// The Highway backends: one per instruction set that was compiled in, the widest first.
#pragma once

#include <span>

#include "ufp4/backend.h"

namespace ufp4::cpu {

std::span<const Backend* const> backends();

}  // namespace ufp4::cpu
