// The parts of a block between its linears. Activations are BF16, arithmetic inside is FP32.
#pragma once

#include <ATen/core/Tensor.h>

namespace ufp4 {

// x / sqrt(mean(x^2) + epsilon) * weight over the last axis: x [.., d] BF16, weight [d] FP32, result BF16.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double epsilon);

// silu(gate) * up of x [.., 2 f] = (gate, up), BF16: [.., f].
at::Tensor swiglu(const at::Tensor& x);

// cos and sin of the rotary embedding: [tokens, head_size] FP32, the first half cos, the second half sin of the angles
// t * theta^(-2 i / head_size).
at::Tensor rotary_table(std::int64_t tokens, std::int64_t head_size, double theta, const at::Device& device);

// Rotates each pair (i, i + head_size / 2) of x [batch, tokens, heads, head_size] BF16 by its position's angle.
at::Tensor rotate(const at::Tensor& x, const at::Tensor& table);

// Causal attention with q [batch, tokens, heads, size], k and v [batch, tokens, kv_heads, size]: [batch, tokens, heads
// * size].
at::Tensor causal_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v);

}  // namespace ufp4
