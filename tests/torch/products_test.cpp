// What multiplies the operands: rows of a table, chosen by recipe, device and shapes; the same values whichever it is.
#include "torch/products.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <gtest/gtest.h>

#include <array>
#include <string_view>

#include "message_of.h"
#include "ufp4/error.h"
#include "ufp4_recipe.h"

namespace ufp4 {
namespace {

using Features = std::array<std::string_view, 2>;

const at::Device kGpu(at::kCUDA, 0);

TEST(Products, TheProcessorsFeaturesChooseTheEmulatedOne) {
  EXPECT_EQ(cpu_product({}).name, "fp32");
  EXPECT_EQ(cpu_product(Features{"avx2", "avx512_f"}).name, "fp32");
  EXPECT_EQ(cpu_product(Features{"avx512_f", "avx512_bf16"}).name, "bf16");
  EXPECT_EQ(cpu_product(Features{"amx_bf16", "avx2"}).name, "bf16");
  EXPECT_EQ(emulated_product(kGpu).name, "bf16");
}

TEST(Products, OneIsForcedUntilTheEndOfAScope) {
  const std::string_view own = emulated_product(at::kCPU).name;
  for (const char* name : {"fp32", "bf16"}) {
    const ForcedCpuProduct forced(find_product(name));
    EXPECT_EQ(emulated_product(at::kCPU).name, name);
    EXPECT_EQ(emulated_product(kGpu).name, "bf16");
  }
  EXPECT_EQ(emulated_product(at::kCPU).name, own);
}

// Products of small whole numbers have exact sums in FP32, in any order: at most one rounding to BF16 is left.
TEST(Products, EveryEmulatedOneIsTheExactProduct) {
  for (const std::int64_t depth : {1, 16, 100, 512}) {
    const at::Tensor a = at::randint(-127, 128, {37, depth}, at::kDouble);
    const at::Tensor b = at::randint(-127, 128, {53, depth + 16}, at::kDouble);  // padded further
    const at::Tensor exact = at::mm(a, b.narrow(1, 0, depth).t()).to(at::kFloat);
    const QuantizedTensor a16 = QuantizedTensor::bf16(a.to(at::kBFloat16));
    const QuantizedTensor b16 = QuantizedTensor::bf16(b.to(at::kBFloat16));
    for (const Product& product : products()) {
      if (product.form != Form::kBf16) continue;
      const std::string what = std::string(product.name) + ", depth " + std::to_string(depth);
      EXPECT_TRUE(at::equal(multiply(product, a16, b16), exact.to(at::kBFloat16))) << what;
      EXPECT_TRUE(at::equal(multiply(product, a16, b16, at::kFloat), exact)) << what;
      at::Tensor into = at::full({37, 53}, 3, at::kFloat);
      multiply_into(into, product, a16, b16, Accumulate::kAdd);
      EXPECT_TRUE(at::equal(into, exact + 3)) << what;
      multiply_into(into, product, a16, b16, Accumulate::kOverwrite);
      EXPECT_TRUE(at::equal(into, exact)) << what;
    }
  }
}

// A gradient in FP32 has the sums themselves: they are not rounded to BF16 on the way.
TEST(Products, Fp32ResultsHaveMoreThanEightBits) {
  const QuantizedTensor a = QuantizedTensor::bf16(at::randn({40, 300}).to(at::kBFloat16));
  const QuantizedTensor b = QuantizedTensor::bf16(at::randn({24, 300}).to(at::kBFloat16));
  const at::Tensor exact = at::mm(a.values.to(at::kDouble), b.values.to(at::kDouble).t());
  for (const char* name : {"bf16", "fp32"}) {
    const at::Tensor found = multiply(find_product(name), a, b, at::kFloat);
    EXPECT_EQ(found.scalar_type(), at::kFloat);
    EXPECT_LT((found.to(at::kDouble) - exact).abs().max().item<double>(), 1e-4) << name;
  }
}

TEST(Products, Fp32IsTheProductInFp32RoundedToBf16) {
  const at::Tensor a = at::randn({40, 300}).to(at::kBFloat16);
  const at::Tensor b = at::randn({24, 300}).to(at::kBFloat16);
  const at::Tensor found = multiply(find_product("fp32"), QuantizedTensor::bf16(a), QuantizedTensor::bf16(b));
  EXPECT_EQ(found.scalar_type(), at::kBFloat16);
  const at::Tensor exact = at::mm(a.to(at::kDouble), b.to(at::kDouble).t());
  const at::Tensor error = (found.to(at::kDouble) - exact).abs();
  // Half a unit of BF16's eight bits, and FP32's error of the sum.
  EXPECT_TRUE((error <= exact.abs() / 256 + 1e-4).all().item<bool>());
}

TEST(Products, AnOperandOfAnotherFormIsNamed) {
  QuantizedTensor a = QuantizedTensor::bf16(at::randn({16, 32}).to(at::kBFloat16));
  const std::string message = message_of<InputError>([&] { multiply(find_product("fp8"), a, a); });
  for (const char* part : {"fp8 product [16, 32] x [32, 16] in BF16", "an operand is bf16, expected e4m3"}) {
    EXPECT_NE(message.find(part), std::string::npos) << message;
  }
  EXPECT_NE(message_of<InputError>([] { find_product("fp9"); }).find("'fp8'"), std::string::npos);
}

Recipe recipe_of(std::string_view format, std::string_view dgrad = {}) {
  Recipe recipe = ufp4_recipe();
  set(recipe, "*.*.format", format);
  if (!dgrad.empty()) set(recipe, "fprop.*.format", dgrad);
  return recipe;
}

constexpr std::array<std::int64_t, 3> kSides{64, 96, 128};

std::string emulated_on(const at::Device& device) {
  return "emulated: " + choose_products(Recipe{}, device, kSides, ProductChoice::kFastest).description;
}

ChosenProducts choose(const Recipe& recipe, const at::Device& device = at::kCPU) {
  return choose_products(recipe, device, kSides, ProductChoice::kFastest);
}

TEST(ChosenProducts, WithoutQuantizationNothingIsEmulated) {
  const ForcedCpuProduct forced(find_product("bf16"));
  EXPECT_EQ(choose(Recipe{}).description, "bf16");
  const ForcedCpuProduct slow(find_product("fp32"));
  EXPECT_EQ(choose(Recipe{}).description, "fp32 (no fast bf16 here)");
}

TEST(ChosenProducts, OnlyE4m3OperandsAskForFp8) {
  for (const char* format : {"e1m2", "e2m1", "nvfp4"}) {
    const ChosenProducts choice = choose(recipe_of(format));
    EXPECT_EQ(choice[Gemm::kFprop].form, Form::kBf16) << format;
    EXPECT_EQ(choice.description, emulated_on(at::kCPU)) << format;
  }
  Recipe rows = recipe_of("int4_p2");
  set(rows, "*.*.outer", "row");
  EXPECT_EQ(choose(rows).description, emulated_on(at::kCPU));
}

TEST(ChosenProducts, ADeviceWithoutFp8EmulatesAndSaysSo) {
  for (const Recipe& recipe : {recipe_of("int4_p2"), recipe_of("int4_p2", "e1m2")}) {
    const ChosenProducts choice = choose(recipe);
    for (const Product* product : choice.gemm) EXPECT_EQ(product->form, Form::kBf16);
    EXPECT_TRUE(choice.description.ends_with("(no FP8 tensor cores here)")) << choice.description;
  }
}

TEST(ChosenProducts, EmulationCanBeAskedFor) {
  const ChosenProducts choice = choose_products(recipe_of("int4_p2"), at::kCPU, kSides, ProductChoice::kEmulated);
  EXPECT_EQ(choice.description, emulated_on(at::kCPU));
}

TEST(ChosenProducts, ADeviceWithFp8TakesItWhereTheShapesFit) {
  if (!find_product("fp8").available(kGpu)) GTEST_SKIP() << "no GPU with FP8 tensor cores, or a build without CUDA";
  EXPECT_EQ(choose(recipe_of("int4_p2"), kGpu).description, "fp8");
  const ChosenProducts part = choose(recipe_of("int4_p2", "e1m2"), kGpu);
  EXPECT_EQ(part[Gemm::kFprop].name, "bf16");
  EXPECT_EQ(part[Gemm::kWgrad].name, "fp8");
  EXPECT_EQ(part.description, "fp8: dgrad, wgrad; the rest emulated: bf16");
  const std::array<std::int64_t, 2> sides{64, 72};
  const ChosenProducts odd = choose_products(recipe_of("int4_p2"), kGpu, sides, ProductChoice::kFastest);
  EXPECT_EQ(odd[Gemm::kFprop].name, "bf16");
  EXPECT_TRUE(odd.description.ends_with("multiples of 16)")) << odd.description;
}

}  // namespace
}  // namespace ufp4
