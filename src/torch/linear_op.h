// The body of torch.ops.ufp4.linear: the quantized linear for a caller that keeps no layer object. Differentiable,
// once, in x and weight; what a compiler sees of it are the operators of linear_parts.h.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "torch/linear_arguments.h"
#include "ufp4/recipe.h"

namespace ufp4::ops {

// The recipe that the text describes: a list of `key = value` separated by ';', as ufp4::set(Recipe&, ..) takes them.
// Read once for a text.
std::shared_ptr<const Recipe> shared_recipe(std::string_view text);

struct LinearOptions {
  bool stash = true;        // x is kept for the backward pass as its packed operand; else as it is
  bool keep_weight = true;  // the weight's operand of dgrad, made with that of fprop, is kept for the backward pass
  std::vector<at::Tensor> prepared;   // the results of quantize_weight; none: they are made
  std::string_view product = "auto";  // or "emulated"
};

// x [.., in], weight [out, in], FP32 or BF16 each: [.., out] in the type of x. An FP32 x is rounded to BF16 first, as
// autocast would.
at::Tensor linear_op(const at::Tensor& x, const at::Tensor& weight, std::string_view recipe, const LinearPlace& place,
                     const LinearOptions& options);

// The names of the products of fprop, dgrad and wgrad, separated by commas, for a weight [out, in] on its device.
// `wanted`: "auto", the fastest that give the recipe's values, or "emulated", of dequantized values.
std::string choose_product_names(const Recipe& recipe, const at::Tensor& weight, std::string_view wanted);

}  // namespace ufp4::ops
