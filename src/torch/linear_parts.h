// The parts of the quantized linear as operators that a compiler does not look into: they have no side effects, and
// their shapes follow from their arguments. autograd's formula of `linear` (linear_op.h) is made of them:
//
//   quantize_weight(weight, ..) -> (fprop, fprop_scale, dgrad, dgrad_scale)
//   linear_forward(x, weight, fprop, fprop_scale, keep, ..) -> (y, codes, scales, outer_scales)
//   linear_backward(dy, x, codes, scales, outer_scales, weight, dgrad, dgrad_scale, ..) -> (dx, dw)
//
// An empty tensor [0] stands for what there is not: an operand that its product takes in BF16 or makes itself, a scale
// that its form does not have, what is not kept of x, a gradient that is not wanted.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/SymInt.h>

#include <array>
#include <optional>
#include <string>
#include <tuple>

#include "torch/linear_arguments.h"
#include "torch/linear_passes.h"

namespace torch {
class Library;
}

namespace ufp4::ops {

using WeightTensors = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor>;
using ForwardTensors = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor>;
using BackwardTensors = std::tuple<at::Tensor, at::Tensor>;

// A call's arguments as the operators below take them through torch's dispatcher.
struct PartCall {
  std::string recipe;
  std::string products;
  std::array<c10::SymInt, 6> place;
  std::optional<at::Tensor> step_tensor;
  std::optional<at::Tensor> layer_tensor;
  std::optional<at::Tensor> token_tensor;
};

// Both operands of weight [out, in], FP32 or BF16.
WeightTensors quantize_weight(const at::Tensor& weight, const PartCall& call);

// y [tokens, out] BF16 of x [tokens, in] BF16. `keep`: wgrad's operand of x is packed and given too.
ForwardTensors linear_forward(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& fprop,
                              const at::Tensor& fprop_scale, bool keep, const PartCall& call);

// What linear_backward takes of the forward pass: x itself, or its packed operand.
struct SavedInput {
  at::Tensor x;
  at::Tensor codes;
  at::Tensor scales;
  at::Tensor outer_scales;
};

// dx [tokens, in] BF16, dw [out, in] in the type of the weight.
BackwardTensors linear_backward(const at::Tensor& dy, const SavedInput& input, const at::Tensor& weight,
                                const at::Tensor& dgrad, const at::Tensor& dgrad_scale, bool want_dx, bool want_dw,
                                const PartCall& call);

void define_linear_parts(torch::Library& library);
template <bool Compute>
void implement_linear_parts(torch::Library& library);
extern template void implement_linear_parts<true>(torch::Library& library);
extern template void implement_linear_parts<false>(torch::Library& library);

}  // namespace ufp4::ops
