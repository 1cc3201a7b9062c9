// What stands between two residual additions of a block, as differentiable functions over several layers: an activation
// is read once and leaves as the operands of its GEMMs, and the gradient of the residual stream is added where it is
// made.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>

#include "model/offload.h"
#include "torch/quantized_linear.h"
#include "torch/random_context.h"

namespace ufp4 {

// A quantized linear and its master weight [out, in].
struct Linear {
  at::Tensor weight;
  QuantizedLinear layer;
};

// The residual stream [tokens, d] BF16 and what is still to be added to it; `branch` may be undefined.
struct Residual {
  at::Tensor x;
  at::Tensor branch;
};

struct SublayerOptions {
  double epsilon = 1e-5;
  // Whether kernels that quantize what a norm, a SwiGLU or the gradient of the rotary positions makes, without writing
  // it, are used where there are such. They change no bit.
  bool fused = true;
  // Whether the backward pass makes the result of fc1 anew instead of keeping it: a GEMM more, and the largest of all
  // kept activations less. It changes no bit.
  bool recompute = false;
  // Where the result of fc1 may wait for the backward pass otherwise, and the number of the layer there; may be null.
  std::shared_ptr<Offload> offload;
  std::int64_t layer = 0;
};

// Adds the branch, and applies linear(rms_norm(x)): {x + branch, [tokens, out]}.
Residual norm_linear(const Residual& in, const at::Tensor& norm_weight, Linear& linear, const RandomContext& context,
                     const SublayerOptions& options);

struct AttentionSettings {
  at::Tensor table;  // of the rotary positions
  std::int64_t sequences = 0;
  std::int64_t heads = 0;  // of queries
  std::int64_t size = 0;   // of a head
};

// Adds the branch, and applies attention(linear(rms_norm(x))): {x + branch, [tokens, heads * size]}.
Residual norm_attention(const Residual& in, const at::Tensor& norm_weight, Linear& qkv,
                        const AttentionSettings& attention, const RandomContext& context,
                        const SublayerOptions& options);

// Adds the branch, and applies fc2(swiglu(fc1(rms_norm(x)))): {x + branch, [tokens, d]}.
Residual feed_forward(const Residual& in, const at::Tensor& norm_weight, Linear& fc1, Linear& fc2,
                      const RandomContext& context, const SublayerOptions& options);

}  // namespace ufp4
