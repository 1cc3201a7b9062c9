// What a file of `ufp4 quantize` says about how it was made.
#pragma once

#include "io/safetensors.h"
#include "ufp4/quantize.h"

namespace ufp4::app {

// Every choice that a bit of the tensors depends on, as the options of `ufp4 quantize` spell it; docs/formats.md lists
// the keys.
io::Metadata quantize_metadata(const OperandSpec& spec, const Place& place);

}  // namespace ufp4::app
