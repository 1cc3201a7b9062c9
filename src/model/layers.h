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

// cos and sin of the rotary embedding: [tokens, head_size] FP32, the first half cos, the second half sin of the angles
// t * theta^(-2 i / head_size).
at::Tensor rotary_table(std::int64_t tokens, std::int64_t head_size, double theta, const at::Device& device);

// Causal attention of queries and keys with the rotary embedding: qkv [batch, tokens, heads + 2 kv_heads, size] BF16,
// which is taken over (its queries and keys are turned in place); result [batch, tokens, heads * size]. The backward
// pass is told to take its sums in a fixed order; torch's cuDNN kernels do not listen (train.attention).
at::Tensor rotary_attention(const at::Tensor& qkv, const at::Tensor& table, std::int64_t heads);

}  // namespace ufp4
