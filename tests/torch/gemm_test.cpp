// What multiplies the operands: chosen by the processor's features, the same values either way.
#include "torch/gemm.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <gtest/gtest.h>

#include <array>
#include <string_view>

namespace ufp4 {
namespace {

using Features = std::array<std::string_view, 2>;

TEST(Gemm, TheProcessorsFeaturesChooseIt) {
  EXPECT_EQ(cpu_gemm_kind({}), GemmKind::kFp32);
  EXPECT_EQ(cpu_gemm_kind(Features{"avx2", "avx512_f"}), GemmKind::kFp32);
  EXPECT_EQ(cpu_gemm_kind(Features{"avx512_f", "avx512_bf16"}), GemmKind::kBf16);
  EXPECT_EQ(cpu_gemm_kind(Features{"amx_bf16", "avx2"}), GemmKind::kBf16);
  EXPECT_EQ(gemm_kind(at::Device(at::kCUDA, 0)), GemmKind::kBf16);
}

TEST(Gemm, IsForcedUntilTheEndOfAScope) {
  const GemmKind own = gemm_kind(at::kCPU);
  for (const GemmKind kind : {GemmKind::kFp32, GemmKind::kBf16}) {
    const ForcedCpuGemm forced(kind);
    EXPECT_EQ(gemm_kind(at::kCPU), kind);
    EXPECT_EQ(gemm_kind(at::Device(at::kCUDA, 0)), GemmKind::kBf16);
  }
  EXPECT_EQ(gemm_kind(at::kCPU), own);
}

TEST(Gemm, TheLogSaysWhichItIs) {
  EXPECT_EQ(description(GemmKind::kBf16), "bf16");
  EXPECT_EQ(description(GemmKind::kFp32), "fp32 (no fast bf16 here)");
}

// Products of small whole numbers have exact sums in FP32, in any order: one rounding to BF16 is left.
TEST(Gemm, BothKindsAreTheExactProductRoundedOnce) {
  for (const std::int64_t depth : {1, 16, 100, 512}) {
    const at::Tensor a = at::randint(-127, 128, {37, depth}, at::kDouble);
    const at::Tensor b = at::randint(-127, 128, {53, depth + 16}, at::kDouble);  // padded further
    const at::Tensor exact = at::mm(a, b.narrow(1, 0, depth).t());
    for (const GemmKind kind : {GemmKind::kBf16, GemmKind::kFp32}) {
      const at::Tensor found = matmul_transposed(a.to(at::kBFloat16), b.to(at::kBFloat16), kind);
      EXPECT_TRUE(at::equal(found, exact.to(at::kFloat).to(at::kBFloat16))) << description(kind) << ", depth " << depth;
    }
  }
}

TEST(Gemm, Fp32IsTheProductInFp32RoundedToBf16) {
  const at::Tensor a = at::randn({40, 300}).to(at::kBFloat16);
  const at::Tensor b = at::randn({24, 300}).to(at::kBFloat16);
  const at::Tensor found = matmul_transposed(a, b, GemmKind::kFp32);
  EXPECT_EQ(found.scalar_type(), at::kBFloat16);
  const at::Tensor exact = at::mm(a.to(at::kDouble), b.to(at::kDouble).t());
  const at::Tensor error = (found.to(at::kDouble) - exact).abs();
  // Half a unit of BF16's eight bits, and FP32's error of the sum.
  EXPECT_TRUE((error <= exact.abs() / 256 + 1e-4).all().item<bool>());
}

}  // namespace
}  // namespace ufp4
