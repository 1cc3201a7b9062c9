#include "train/optimizer.h"

#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <stdexcept>

namespace ufp4 {
namespace {

OptimizerSettings settings() {
  OptimizerSettings s;
  s.clip = 1;
  return s;
}

// Gradient and loss as a backward pass would leave them.
AdamW::Result update(AdamW& optimizer, const NamedParameter& parameter, const std::vector<float>& gradient, double loss,
                     double lr) {
  const at::Tensor tensor = parameter.tensor;
  tensor.mutable_grad() = at::tensor(gradient).reshape_as(tensor);
  optimizer.set_learning_rate(lr);
  optimizer.update(at::full({}, loss, at::kFloat));
  return optimizer.result();
}

NamedParameter parameter(const std::vector<float>& values, bool decay) {
  const auto count = static_cast<std::int64_t>(values.size());
  return {"w", at::tensor(values).reshape({1, count}).set_requires_grad(true), decay};
}

// AdamW in FP64, after its paper: decay first, then moments with bias correction.
struct ByHand {
  double w, mean = 0, square = 0;
  int updates = 0;

  void step(double g, double lr, double decay, const OptimizerSettings& s) {
    ++updates;
    w -= lr * decay * w;
    mean = s.beta1 * mean + (1 - s.beta1) * g;
    square = s.beta2 * square + (1 - s.beta2) * g * g;
    const double m = mean / (1 - std::pow(s.beta1, updates));
    const double v = square / (1 - std::pow(s.beta2, updates));
    w -= lr * m / (std::sqrt(v) + s.epsilon);
  }
};

TEST(AdamW, AnUpdateCountsAsAChangeOfTheWeights) {
  const NamedParameter p = parameter({0.5F, -1.5F}, true);
  AdamW optimizer({p}, settings());
  const auto before = p.tensor._version();
  update(optimizer, p, {0.3F, 0.4F}, 2.5, 0.01);
  EXPECT_GT(p.tensor._version(), before);
}

TEST(AdamW, TheGradientsAreGoneAfterAnUpdate) {
  const NamedParameter p = parameter({0.5F, -1.5F}, true);
  AdamW optimizer({p}, settings());
  update(optimizer, p, {0.3F, 0.4F}, 2.5, 0.01);
  EXPECT_FALSE(p.tensor.grad().defined());
  EXPECT_THROW(optimizer.update(at::full({}, 1, at::kFloat)), std::logic_error);
}

TEST(AdamW, AgreesWithAHandComputation) {
  for (const bool decay : {true, false}) {
    const OptimizerSettings s = settings();
    const NamedParameter p = parameter({0.5F, -1.5F}, decay);
    AdamW optimizer({p}, s);
    ByHand a{0.5}, b{-1.5};
    const std::vector<std::vector<float>> gradients{{0.3F, 0.4F}, {3, -4}, {-0.1F, 0.2F}};
    for (const std::vector<float>& g : gradients) {
      const AdamW::Result result = update(optimizer, p, g, 2.5, 0.01);
      const double norm = std::hypot(g[0], g[1]);
      const double scale = 1 / std::max(norm, 1.0);
      EXPECT_NEAR(result.grad_norm, norm, 1e-6);
      EXPECT_EQ(result.loss, 2.5);
      EXPECT_FALSE(result.skipped);
      a.step(scale * g[0], 0.01, decay ? s.weight_decay : 0, s);
      b.step(scale * g[1], 0.01, decay ? s.weight_decay : 0, s);
    }
    EXPECT_NEAR(p.tensor[0][0].item<float>(), a.w, 1e-6);
    EXPECT_NEAR(p.tensor[0][1].item<float>(), b.w, 1e-6);
  }
}

TEST(AdamW, ANonFiniteStepChangesNothing) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  constexpr float kInf = std::numeric_limits<float>::infinity();
  const NamedParameter p = parameter({1, 2}, true);
  AdamW optimizer({p}, settings());
  update(optimizer, p, {0.1F, 0.2F}, 1, 0.01);
  std::vector<at::Tensor> before{p.tensor.detach().clone()};
  for (const auto& [name, tensor] : optimizer.state()) before.push_back(tensor.clone());

  EXPECT_TRUE(update(optimizer, p, {kNan, 1}, 1, 0.01).skipped);
  EXPECT_TRUE(update(optimizer, p, {1, kInf}, 1, 0.01).skipped);
  EXPECT_TRUE(update(optimizer, p, {1, 1}, kNan, 0.01).skipped);

  EXPECT_TRUE(p.tensor.detach().equal(before[0]));
  for (std::size_t i = 0; i < optimizer.state().size(); ++i) {
    EXPECT_TRUE(optimizer.state()[i].second.equal(before[i + 1])) << optimizer.state()[i].first;
  }
  EXPECT_FALSE(update(optimizer, p, {1, 1}, 1, 0.01).skipped);
  EXPECT_FALSE(p.tensor.detach().equal(before[0]));
}

TEST(AdamW, WithoutAClipTheGradientIsLeftAlone) {
  OptimizerSettings s = settings();
  s.clip = 0;
  const NamedParameter p = parameter({1, 2}, false);
  AdamW optimizer({p}, s);
  ByHand a{1};
  a.step(300, 0.01, 0, s);
  update(optimizer, p, {300, 400}, 1, 0.01);
  EXPECT_NEAR(optimizer.state()[0].second[0][0].item<float>(), a.mean, 1e-4);
}

}  // namespace
}  // namespace ufp4
