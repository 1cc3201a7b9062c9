// The kernels behind torch.ops.ufp4.*, one set a device. The operators (ops.cpp) check the arguments, allocate the
// results and call the kernel of the tensor's device; a further device adds one function of each kind and its
// registration.
#pragma once

#include <span>

#include "ufp4/quantize.h"

namespace ufp4::cpu_kernels {

// Backend::quantize over torch's threads. The operand is split along its rows, whose places in the random counter are
// passed on as offsets, so that the bits do not depend on the number of threads.
void quantize(const ConstMatrix& in, std::span<const QuantizeTask> tasks);

// Backend::dequantize over torch's threads.
void dequantize(const ConstQuantized& in, void* out, DType out_dtype);

}  // namespace ufp4::cpu_kernels
