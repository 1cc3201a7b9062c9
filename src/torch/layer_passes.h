// The layers between the linears, forward and backward, on plain tensors without autograd: BF16 in and out, FP32
// inside, a single pass over memory each. For tensors on the CPU and, in a build with CUDA, on a GPU.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace ufp4 {

// rstd [rows] FP32 = 1 / sqrt(mean(x^2) + epsilon) of every row of x, or of x + branch where `branch` is defined: `x`
// is that sum then, rounded to BF16.
struct RmsStatistics {
  at::Tensor x;
  at::Tensor rstd;
};
RmsStatistics rms_statistics(const at::Tensor& x, const at::Tensor& branch, double epsilon);

// (x * rstd) * weight over the last axis.
at::Tensor rms_norm_forward(const RmsStatistics& of, const at::Tensor& weight);

// dx, to which `residual` is added where it is defined, and dweight in FP32, summed in an order that the shape decides.
struct RmsNormGradients {
  at::Tensor dx;
  at::Tensor dweight;
};
RmsNormGradients rms_norm_backward(const at::Tensor& dy, const RmsStatistics& of, const at::Tensor& weight,
                                   const at::Tensor& residual);

// silu(gate) * up of h [.., 2 f] = (gate, up): [.., f]; and the gradient of h.
at::Tensor swiglu_forward(const at::Tensor& h);
at::Tensor swiglu_backward(const at::Tensor& dy, const at::Tensor& h);

// Heads of q, k and v, [batch, tokens, heads, size] of any strides but 1 along the last axis.
struct RotaryHeads {
  at::Tensor heads;
  bool turned = true;
};

// Turns the pairs (i, i + size / 2) by their token's angle (table [tokens, size]: cosines, sines), forward or, with
// direction -1, back, and writes the parts one after the other to `to` [batch, tokens, all heads, size], dense. A part
// may be a view of its place in `to`.
void rotary(const std::vector<RotaryHeads>& parts, const at::Tensor& table, float direction, const at::Tensor& to);

// -log softmax(logits)[target] in nats of every row of logits [n, vocabulary] BF16, targets [n] int64: [n] FP32. Where
// `gradient`, the logits are overwritten with (softmax - one hot) * scale.
at::Tensor cross_entropy(const at::Tensor& logits, const at::Tensor& targets, bool gradient, double scale);

}  // namespace ufp4
