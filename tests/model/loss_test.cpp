#include "model/loss.h"

#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include "relative_error.h"

namespace ufp4 {
namespace {

TEST(HeadCrossEntropy, IsTorchsForAnyChunk) {
  const at::Tensor hidden = at::randn({50, 32}).to(at::kBFloat16);
  const at::Tensor weight = at::randn({97, 32}) * 0.3;
  const at::Tensor targets = at::randint(97, {50}, at::kLong);
  const at::Tensor plain_hidden = leaf(hidden.to(at::kFloat));
  const at::Tensor plain_weight = leaf(weight.to(at::kBFloat16).to(at::kFloat));
  const at::Tensor expected = at::cross_entropy_loss(at::mm(plain_hidden, plain_weight.t()), targets);
  expected.backward();
  at::Tensor whole;
  for (const std::int64_t chunk : {50, 1000, 16, 7, 1}) {
    const at::Tensor h = leaf(hidden);
    const at::Tensor w = leaf(weight);
    const at::Tensor loss = head_cross_entropy(h, w, targets, chunk);
    loss.backward();
    EXPECT_EQ(loss.scalar_type(), at::kFloat);
    EXPECT_NEAR(loss.item<float>(), expected.item<float>(), 2e-3) << chunk;
    EXPECT_LT(relative_error(h.grad(), plain_hidden.grad()), 0.01) << chunk;
    EXPECT_LT(relative_error(w.grad(), plain_weight.grad()), 0.01) << chunk;
    if (!whole.defined()) whole = loss.detach();
    EXPECT_NEAR(loss.item<float>(), whole.item<float>(), 1e-5) << chunk;
    const c10::NoGradGuard no_grad;
    EXPECT_EQ(head_cross_entropy(h, w, targets, chunk).item<float>(), loss.item<float>());
  }
}

TEST(HeadCrossEntropy, ScalesWithTheGradientOfTheLoss) {
  const at::Tensor h = leaf(at::randn({20, 16}).to(at::kBFloat16));
  const at::Tensor w = leaf(at::randn({30, 16}));
  const at::Tensor targets = at::randint(30, {20}, at::kLong);
  head_cross_entropy(h, w, targets, 8).backward();
  const at::Tensor one = w.grad().clone();
  w.mutable_grad().reset();
  (head_cross_entropy(h, w, targets, 8) / 4).backward();
  EXPECT_TRUE((w.grad() * 4).equal(one));
}

// Weight in BF16, its gradient, that of the hidden states, and the logits of a chunk.
TEST(LossBytes, AreThoseOfAChunk) {
  const at::Device gpu(at::kCUDA, 0);
  constexpr std::int64_t kVocabulary = 1 << 17;
  EXPECT_EQ(default_loss_chunk(kVocabulary, gpu), 1024);
  EXPECT_EQ(loss_bytes(16384, 64, kVocabulary, gpu), (6.0 * 64 + 2.0 * 1024) * kVocabulary + 2.0 * 16384 * 64);
  EXPECT_EQ(loss_bytes(100, 64, kVocabulary, gpu), (6.0 * 64 + 2.0 * 100) * kVocabulary + 2.0 * 100 * 64);
  EXPECT_GT(loss_bytes(100, 64, kVocabulary, at::kCPU), loss_bytes(100, 64, kVocabulary, gpu));
  EXPECT_EQ(loss_bytes(100, 64, 0, gpu), 0) << "the vocabulary is not known yet";
}

}  // namespace
}  // namespace ufp4
