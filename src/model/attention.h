// Causal attention with rotary positions: as a differentiable function, and its passes for a function that does more.
// Shapes: [batch, tokens, heads, size], BF16.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "config/model_config.h"
#include "torch/layer_passes.h"

namespace ufp4 {

// cos and sin of the rotary embedding: [tokens, head_size] FP32, the first half cos, the second half sin of the angles
// t * theta^(-2 i / head_size), whose frequencies `rope` may stretch.
at::Tensor rotary_table(std::int64_t tokens, std::int64_t head_size, double theta, const at::Device& device,
                        const RopeSettings& rope = {});

// Causal attention of queries and keys with the rotary embedding: qkv [batch, tokens, heads + 2 kv_heads, size], which
// is taken over (its queries and keys are turned in place); result [batch, tokens, heads * size]. The backward pass is
// told to take its sums in a fixed order; torch's cuDNN kernels do not listen (train.attention).
at::Tensor rotary_attention(const at::Tensor& qkv, const at::Tensor& table, std::int64_t heads);

// The same forward pass, and what its backward pass needs: torch's attention differentiates itself, in a graph of its
// own from the turned heads to `out`.
struct Attention {
  at::Tensor q, k, v;
  at::Tensor out;
};
Attention attend(const at::Tensor& qkv, const at::Tensor& table, std::int64_t heads, bool keep);

// Turned keys, and values, of the tokens so far: [1, capacity, kv_heads, size].
struct KeyValueCache {
  at::Tensor k, v;
};

// Attention of the tokens of qkv [1, tokens, heads + 2 kv_heads, size], which is taken over, to themselves and to the
// `past` tokens of the cache; they join the cache. [1, tokens, heads * size], without a backward pass.
at::Tensor attend_cached(const at::Tensor& qkv, const at::Tensor& table, std::int64_t heads, KeyValueCache& cache,
                         std::int64_t past);

// The gradients of the turned q and k and of v; once.
std::vector<RotaryHeads> attention_backward(const Attention& of, const at::Tensor& dout);

}  // namespace ufp4
