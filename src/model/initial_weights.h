// Initial weights that depend on the seed and the parameter's name alone.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string_view>

namespace ufp4 {

// FP32 tensor on the CPU of normal variates with standard deviation `deviation`: Box-Muller on Philox words keyed by
// `seed`, on a stream that the name gives. The bits do not depend on threads.
at::Tensor normal_weight(at::IntArrayRef shape, double deviation, std::uint64_t seed, std::string_view name);

}  // namespace ufp4
