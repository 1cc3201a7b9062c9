// The product of INT8 operands on NVIDIA GPUs (numerics/int8_product.h says what it is): the reference's bits, whatever
// the device, the kernel and its tiles. A call is asynchronous, allocates nothing, reads nothing of the device's memory
// on the host, and may be captured into a CUDA graph.
#pragma once

#include <optional>

#include "cuda/int8_launch.h"
#include "cuda/quantize.h"
#include "numerics/int8_product.h"

namespace ufp4::cuda {

// Whether the current device has INT8 tensor cores that this build has a kernel for; else why not, in a sentence.
DeviceStatus int8_status();

// Whether the current device and this build have Hopper's.
bool has_wgmma();

// Which instructions multiply.
enum class Int8Kernel : std::uint8_t {
  kBest,   // Hopper's where there are any
  kWgmma,  // those of a warpgroup: Hopper
  kMma,    // those of a warp: Ampere and later
};

// All pointers of `product` are device pointers. Operands begin at multiples of 16 bytes, and so do their rows. Throws
// InputError for a product that is none (see check) or an operand that is not aligned, RunError if the launch fails.
void int8_product(const Int8Product& product, Stream stream);

// By that kernel, and if it is Hopper's in one of int8_launches(); none: that of int8_launch().
void int8_product(const Int8Product& product, Int8Kernel kernel, const std::optional<Int8Launch>& launch,
                  Stream stream);

}  // namespace ufp4::cuda
