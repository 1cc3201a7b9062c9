// The LM head and its loss, without all logits ever in memory.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace ufp4 {

// Mean over tokens of -log softmax(hidden weight^T)[target], in nats: hidden [n, d] BF16, weight [vocabulary, d] FP32
// (multiplied in BF16), targets [n] int64; softmax in FP32. Logits exist for `chunk` tokens at a time. Where a gradient
// is wanted it is computed with the loss, while the logits are there: the backward pass only scales it.
at::Tensor head_cross_entropy(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& targets,
                              std::int64_t chunk);

// -log softmax(hidden weight^T)[target] of each token, in nats, FP32 [n]; nothing is kept for a gradient.
at::Tensor head_token_losses(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& targets,
                             std::int64_t chunk);

// Tokens a chunk, for a vocabulary: logits that stay in the caches of a CPU, or that fill a GPU.
std::int64_t default_loss_chunk(std::int64_t vocabulary, const at::Device& device);

// Bytes that the loss of `tokens` holds with default_loss_chunk, gradients of LM head and hidden states included.
double loss_bytes(std::int64_t tokens, std::int64_t d_model, std::int64_t vocabulary, const at::Device& device);

}  // namespace ufp4
