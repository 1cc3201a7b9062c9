// What the operators of the quantized linear take beside their tensors, and what the passes make of it.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/SymInt.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

#include "torch/linear_passes.h"

namespace ufp4::ops {

// Where a call stands: numbers, and tensors of one int32 on the device of the data that stand for some of them, so
// that what was compiled once serves every step and layer.
struct LinearPlace {
  std::int64_t seed = 0;
  std::optional<std::int64_t> layer;
  std::optional<std::int64_t> step;
  c10::SymInt token_offset = 0;  // of the first token among those of the step
  c10::SymInt in_offset = 0;     // of x's first feature in the whole layer, for a layer that was cut along `in`
  c10::SymInt out_offset = 0;    // of the first output, for one that was cut along `out`
  std::optional<at::Tensor> step_tensor;
  std::optional<at::Tensor> layer_tensor;
  std::optional<at::Tensor> token_tensor;  // added to token_offset
};

// The end of the schemas of quantize_weight, linear_forward and linear_backward. `products`: the names of those of
// fprop, dgrad and wgrad, separated by commas. `place`: seed, layer, step, token offset, `in` offset, `out` offset.
inline constexpr std::string_view kCallArguments =
    "str recipe, str products, SymInt[] place, Tensor? step_tensor, Tensor? layer_tensor, Tensor? token_tensor";

// The numbers of `place` in that list. What is not given is 0.
std::array<c10::SymInt, 6> place_list(const LinearPlace& place);

struct CallArguments {
  std::string_view recipe;
  std::string_view products;
  c10::SymIntArrayRef place;
  const std::optional<at::Tensor>& step_tensor;
  const std::optional<at::Tensor>& layer_tensor;
  const std::optional<at::Tensor>& token_tensor;
};

// What the passes take for a call that computes. Throws InputError that names the argument which does not fit.
LinearCall call_of(const CallArguments& arguments, Stash stash);

// The same where only shapes count.
LinearCall shape_call_of(const CallArguments& arguments, Stash stash);

// Throws InputError if the recipe draws random bits that the call does not place: operands of fprop alone, or of all
// three products where gradients are wanted.
void check_placed(const Recipe& recipe, const LinearPlace& place, bool gradients);

}  // namespace ufp4::ops
