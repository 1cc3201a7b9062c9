// The differentiable layers against torch's operators in FP64.
#include "model/layers.h"

#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <vector>

#include "relative_error.h"
#include "test_devices.h"

namespace ufp4 {
namespace {

// With few tokens that come often, as bytes do, torch's own backward pass adds in an order that varies on a GPU.
TEST(Embed, RoundsRowsAndAddsTheirGradientsInAFixedOrder) {
  const at::Tensor weight = at::randn({96, 64});
  const at::Tensor tokens = (at::rand({16384}).pow(4) * 90).to(at::kLong);
  const at::Tensor dy = at::randn({16384, 64}).to(at::kBFloat16);
  const at::Tensor expected = at::zeros({96, 64}, at::kDouble).index_add_(0, tokens, dy.to(at::kDouble));
  for (const at::Device& device : test_devices()) {
    at::Tensor first;
    for (int i = 0; i < 20; ++i) {
      const at::Tensor w = leaf(weight.to(device));
      const at::Tensor y = embed(w, tokens.to(device));
      EXPECT_TRUE(y.equal(weight.index_select(0, tokens).to(at::kBFloat16).to(device)));
      y.backward(dy.to(device));
      EXPECT_LT(relative_error(w.grad().cpu(), expected), 1e-6);
      if (!first.defined()) first = w.grad();
      ASSERT_TRUE(w.grad().equal(first)) << device << ", " << i;
    }
  }
}

TEST(RmsNorm, DifferentiatesXBranchAndWeight) {
  for (const bool branch : {false, true}) {
    const at::Tensor x = leaf(at::randn({3, 40, 48}).to(at::kBFloat16));
    const at::Tensor added = branch ? leaf(at::randn({3, 40, 48}).to(at::kBFloat16)) : at::Tensor();
    const at::Tensor weight = leaf(at::randn({48}));
    const at::Tensor wide = leaf((branch ? x + added : x).to(at::kDouble));
    const at::Tensor wide_weight = leaf(weight.to(at::kDouble));
    const at::Tensor expected = wide * at::rsqrt(wide.square().mean(-1, true) + 1e-5) * wide_weight;
    const at::Tensor found = rms_norm(x, weight, 1e-5, added);
    EXPECT_LT(relative_error(found, expected), 0x1p-8);
    const at::Tensor dy = at::randn(found.sizes()).to(at::kBFloat16);
    found.backward(dy);
    expected.backward(dy.to(at::kDouble));
    EXPECT_LT(relative_error(x.grad(), wide.grad()), 0x1p-8);
    EXPECT_LT(relative_error(weight.grad(), wide_weight.grad()), 1e-5);
    EXPECT_TRUE(!branch || added.grad().equal(x.grad()));
  }
}

}  // namespace
}  // namespace ufp4
