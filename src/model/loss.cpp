#include "model/loss.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "torch/layer_passes.h"
#include "torch/products.h"

namespace ufp4 {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct LossAndGradients {
  at::Tensor loss;    // FP32 scalar
  at::Tensor hidden;  // BF16, undefined if not wanted
  at::Tensor weight;  // FP32, undefined if not wanted
};

LossAndGradients compute(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& targets,
                         std::int64_t chunk, bool want_gradients) {
  const c10::NoGradGuard no_grad;
  const at::Tensor bf16_weight = weight.to(at::kBFloat16);
  const std::int64_t tokens = hidden.size(0);
  LossAndGradients result{at::zeros({}, hidden.options().dtype(at::kFloat)), {}, {}};
  if (want_gradients) {
    result.hidden = at::empty_like(hidden);
    result.weight = at::empty(weight.sizes(), weight.options().dtype(at::kFloat));
  }
  const double share = 1.0 / static_cast<double>(tokens);
  for (std::int64_t first = 0; first < tokens; first += chunk) {
    const std::int64_t length = std::min(chunk, tokens - first);
    const at::Tensor part = hidden.narrow(0, first, length);
    const at::Tensor logits = matmul_transposed(part, bf16_weight);
    // d loss / d logits = (softmax - one hot) / tokens, in the place of the logits
    result.loss += cross_entropy(logits, targets.narrow(0, first, length), want_gradients, share).sum();
    if (!want_gradients) continue;
    result.hidden.narrow(0, first, length).copy_(matmul_transposed(logits, bf16_weight.t()));
    multiply_into(result.weight, emulated_product(hidden.device()), QuantizedTensor::bf16(logits.t()),
                  QuantizedTensor::bf16(part.t()), first == 0 ? Accumulate::kOverwrite : Accumulate::kAdd);
  }
  result.loss.mul_(share);
  return result;
}

class HeadCrossEntropy : public torch::autograd::Function<HeadCrossEntropy> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& hidden, const at::Tensor& weight,
                            const at::Tensor& targets, std::int64_t chunk) {
    LossAndGradients result = compute(hidden, weight, targets, chunk, true);
    ctx->saved_data["hidden"] = result.hidden;
    ctx->saved_data["weight"] = result.weight;
    return result.loss;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const auto scaled = [&](const char* name) { return ctx->saved_data[name].toTensor().mul_(gradients[0]); };
    variable_list result{scaled("hidden"), scaled("weight"), {}, {}};
    ctx->saved_data.clear();  // they are given away
    return result;
  }
};

}  // namespace

at::Tensor head_cross_entropy(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& targets,
                              std::int64_t chunk) {
  if (at::GradMode::is_enabled() && (hidden.requires_grad() || weight.requires_grad())) {
    return HeadCrossEntropy::apply(hidden, weight, targets, chunk);
  }
  return compute(hidden, weight, targets, chunk, false).loss;
}

at::Tensor head_token_losses(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& targets,
                             std::int64_t chunk) {
  const c10::NoGradGuard no_grad;
  const at::Tensor bf16_weight = weight.to(at::kBFloat16);
  const at::Tensor losses = at::empty({hidden.size(0)}, hidden.options().dtype(at::kFloat));
  for (std::int64_t first = 0; first < hidden.size(0); first += chunk) {
    const std::int64_t length = std::min(chunk, hidden.size(0) - first);
    const at::Tensor logits = matmul_transposed(hidden.narrow(0, first, length), bf16_weight);
    losses.narrow(0, first, length).copy_(cross_entropy(logits, targets.narrow(0, first, length), false, 1.0));
  }
  return losses;
}

std::int64_t default_loss_chunk(std::int64_t vocabulary, const at::Device& device) {
  const std::int64_t logits = device.is_cpu() ? std::int64_t{1} << 21 : std::int64_t{1} << 26;
  return std::max<std::int64_t>(1024, logits / vocabulary);
}

double loss_bytes(std::int64_t tokens, std::int64_t d_model, std::int64_t vocabulary, const at::Device& device) {
  if (vocabulary == 0) return 0;
  const auto head = static_cast<double>(vocabulary * d_model);
  const auto chunk = static_cast<double>(std::min(tokens, default_loss_chunk(vocabulary, device)));
  const double of_a_logit = device.is_cpu() ? 10 : 2;  // BF16, and on a CPU FP32 beside it
  return chunk * static_cast<double>(vocabulary) * of_a_logit + (4 + 2) * head +
         2 * static_cast<double>(tokens * d_model);
}

}  // namespace ufp4
