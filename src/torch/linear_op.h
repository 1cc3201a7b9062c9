// The body of torch.ops.ufp4.linear: the quantized linear for a caller that keeps no layer object.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string_view>

namespace ufp4::ops {

// x [.., in] BF16, weight [out, in]. `recipe` is as find_or_parse_recipe (config/recipes.h) takes it: "ufp4",
// "ufp4; dgrad.hadamard = 0", "*.*.format = e1m2; *.hadamard = 16". The weight is quantized at every call.
at::Tensor linear_op(const at::Tensor& x, const at::Tensor& weight, std::string_view recipe, std::int64_t layer,
                     std::int64_t seed, std::int64_t step, std::int64_t token_offset, bool stash);

}  // namespace ufp4::ops
