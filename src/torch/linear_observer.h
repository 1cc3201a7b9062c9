// Who watches the GEMMs of the linears while a model runs: a member of the context that is passed to every call.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "torch/random_context.h"
#include "ufp4/recipe.h"

namespace ufp4 {

// Called on the thread that runs the pass, forward or backward. What it is shown is used afterwards and must not be
// changed: watching changes no bit of the result.
class LinearObserver {
 public:
  virtual ~LinearObserver() = default;

  // An operand of a GEMM of linear `number` before it is quantized: BF16, as stored. The GEMM's operand is this matrix
  // with blocks along axis_of(role). Those of x come with the forward pass, those of the weight when they are made:
  // both before the first pass of a step, or each with its own.
  virtual void operand(std::uint32_t number, OperandRole role, const at::Tensor& stored) = 0;

  // What a GEMM gave: y and dx in BF16, and dw in FP32 where it is not added to that of another micro-batch.
  virtual void result(std::uint32_t number, Gemm gemm, const at::Tensor& result) = 0;
};

}  // namespace ufp4
