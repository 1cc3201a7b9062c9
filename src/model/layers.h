// The layers of a transformer as differentiable functions. Activations are BF16, arithmetic inside is FP32.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace ufp4 {

// Rows of `weight` [vocabulary, d] FP32, rounded to BF16: [tokens, d] for tokens int64 [tokens]. The backward pass
// takes its sums in a fixed order.
at::Tensor embed(const at::Tensor& weight, const at::Tensor& tokens);

// (x / sqrt(mean(x^2) + epsilon)) * weight over the last axis: x [.., d] BF16, weight [d] FP32, result BF16. With
// `branch` defined, of x + branch.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double epsilon, const at::Tensor& branch = {});

// silu(gate) * up of h [.., 2 f] = (gate, up), BF16: [.., f].
at::Tensor swiglu(const at::Tensor& h);

}  // namespace ufp4
