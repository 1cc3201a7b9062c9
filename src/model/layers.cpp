#include "model/layers.h"

#include <ATen/ops/embedding.h>
#include <ATen/ops/embedding_dense_backward.h>
#include <torch/csrc/autograd/custom_function.h>

#include <optional>
#include <utility>

#include "model/deterministic.h"
#include "torch/layer_passes.h"

namespace ufp4 {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

class EmbeddingFunction : public torch::autograd::Function<EmbeddingFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& weight, const at::Tensor& tokens) {
    ctx->save_for_backward({tokens});
    ctx->saved_data["rows"] = weight.size(0);
    return at::embedding(weight, tokens).to(at::kBFloat16);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const DeterministicScope deterministic;
    return {at::embedding_dense_backward(gradients[0].to(at::kFloat), ctx->get_saved_variables()[0],
                                         ctx->saved_data["rows"].toInt(), -1, false),
            {}};
  }
};

class RmsNormFunction : public torch::autograd::Function<RmsNormFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight, double epsilon,
                            const std::optional<at::Tensor>& branch) {
    const RmsStatistics of = rms_statistics(x, branch.value_or(at::Tensor()), epsilon);
    ctx->save_for_backward({of.x, of.rstd, weight});
    ctx->saved_data["branch"] = branch.has_value();
    return rms_norm_forward(of, weight);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const variable_list saved = ctx->get_saved_variables();
    const auto [dx, dweight] = rms_norm_backward(gradients[0], {saved[0], saved[1]}, saved[2], {});
    return {dx, dweight, {}, ctx->saved_data["branch"].toBool() ? dx : at::Tensor()};
  }
};

class SwigluFunction : public torch::autograd::Function<SwigluFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& h) {
    ctx->save_for_backward({h});
    return swiglu_forward(h);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    return {swiglu_backward(gradients[0].contiguous(), ctx->get_saved_variables()[0])};
  }
};

}  // namespace

at::Tensor embed(const at::Tensor& weight, const at::Tensor& tokens) {
  return EmbeddingFunction::apply(weight, tokens);
}

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double epsilon, const at::Tensor& branch) {
  return RmsNormFunction::apply(x, weight, epsilon, branch.defined() ? std::optional(branch) : std::nullopt);
}

at::Tensor swiglu(const at::Tensor& h) { return SwigluFunction::apply(h); }

}  // namespace ufp4
