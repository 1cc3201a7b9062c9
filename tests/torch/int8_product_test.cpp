// INT8 products of the table on tensors, against the scalar reference, and on a GPU against the CPU.
#include "torch/int8_product.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/randn.h>
#include <gtest/gtest.h>

#include <array>
#include <string>
#include <vector>

#include "config/recipes.h"
#include "gpu_usable.h"
#include "message_of.h"
#include "torch/operand.h"
#include "torch/products.h"
#include "ufp4/error.h"
#include "ufp4/format.h"

namespace ufp4 {
namespace {

OperandSpec spec_of(OuterScale each, Rounding rounding = Rounding::kNearest) {
  return {.format = &find_format("int4_i4"), .rounding = rounding, .hadamard = {.size = 16}, .outer = {.each = each}};
}

QuantizedTensor integers(const at::Tensor& matrix, const OperandSpec& spec) {
  return quantize(Source::matrix(matrix), {spec, {{.seed = 3, .stream = 5}}, Form::kInt8, {}});
}

// Rows of very different size, so that segments matter.
at::Tensor uneven(std::int64_t rows, std::int64_t columns) {
  return (at::randn({rows, columns}) * at::randn({1, columns}).exp()).to(at::kBFloat16);
}

at::Tensor reference(const QuantizedTensor& a, const QuantizedTensor& b, const at::Tensor& before, Accumulate how) {
  at::Tensor out = before.clone();
  const ProductShape shape{
      .m = a.values.size(0), .n = b.values.size(0), .k = a.values.size(1), .out = out.scalar_type(), .accumulate = how};
  int8_product_reference(int8::description_of(shape, a, b, out));
  return out;
}

constexpr std::array kEach{OuterScale::kRow, OuterScale::k1x128, OuterScale::k1x256, OuterScale::k1x512,
                           OuterScale::k1x1024};

TEST(Int8Products, AreTheReferenceForAnyNumberOfThreads) {
  const Product& product = find_product("int8");
  const int threads = at::get_num_threads();
  for (const OuterScale each : kEach) {
    for (const auto& [m, n, k] : {std::array<std::int64_t, 3>{37, 53, 1100}, {1, 300, 16}, {130, 200, 2050}}) {
      const QuantizedTensor a = integers(uneven(m, k), spec_of(each));
      const QuantizedTensor b = integers(uneven(n, k), spec_of(each, Rounding::kStochastic));
      const at::Tensor narrow = at::empty({m, n}, at::kBFloat16);
      const at::Tensor wide = at::randn({m, n});
      for (const int count : {1, 2, 5}) {
        at::set_num_threads(count);
        const std::string what =
            std::string(name_of(each)) + " " + std::to_string(m) + " threads " + std::to_string(count);
        EXPECT_TRUE(at::equal(multiply(product, a, b), reference(a, b, narrow, Accumulate::kOverwrite))) << what;
        EXPECT_TRUE(at::equal(multiply(product, a, b, at::kFloat), reference(a, b, wide, Accumulate::kOverwrite)))
            << what;
        at::Tensor added = wide.clone();
        multiply_into(added, product, a, b, Accumulate::kAdd);
        EXPECT_TRUE(at::equal(added, reference(a, b, wide, Accumulate::kAdd))) << what;
      }
      at::set_num_threads(threads);
    }
  }
}

// Of the same values, dequantized: what is left is how sums are rounded.
TEST(Int8Products, AgreeWithTheEmulation) {
  const at::Tensor x = uneven(64, 1536);
  const at::Tensor w = uneven(96, 1536);
  const auto values = [&](const at::Tensor& matrix) {
    return quantize(Source::matrix(matrix), {spec_of(OuterScale::k1x512), {{.seed = 3, .stream = 5}}, Form::kFp32, {}})
        .values.to(at::kDouble);
  };
  const at::Tensor exact = values(x).matmul(values(w).t());
  const at::Tensor found = multiply(find_product("int8"), integers(x, spec_of(OuterScale::k1x512)),
                                    integers(w, spec_of(OuterScale::k1x512)), at::kFloat);
  EXPECT_LT((found - exact).norm().item<double>(), 1e-6 * exact.norm().item<double>());
}

TEST(Int8Products, ARowThatIsNotFiniteIsNan) {
  at::Tensor x = uneven(20, 600);
  x[7][300] = std::numeric_limits<float>::infinity();
  const at::Tensor y = multiply(find_product("int8"), integers(x, spec_of(OuterScale::k1x512)),
                                integers(uneven(30, 600), spec_of(OuterScale::k1x512)));
  EXPECT_TRUE(y[7].isnan().all().item<bool>());
  EXPECT_EQ(y.isnan().sum().item<std::int64_t>(), 30);
}

TEST(Int8Products, AreTakenWhereBothOperandsHaveThem) {
  const std::vector<std::int64_t> sides{96, 250};
  const auto chosen = [&](const char* text) {
    return choose_products(find_or_parse_recipe(text), at::kCPU, sides, ProductChoice::kFastest).description;
  };
  EXPECT_EQ(chosen("ufp4_i4"), "int8");
  EXPECT_EQ(chosen("ufp4_i4; wgrad.dy.format = e1m2").substr(0, 31), "int8: fprop, dgrad; the rest em");
  // Scales of other segments on each side do not meet.
  EXPECT_EQ(chosen("ufp4_i4; dgrad.w.outer = 1x128").substr(0, 31), "int8: fprop, wgrad; the rest em");
  EXPECT_EQ(choose_products(find_or_parse_recipe("ufp4_i4"), at::kCPU, sides, ProductChoice::kEmulated)
                .description.substr(0, 9),
            "emulated:");
}

TEST(Int8Products, RefuseWhatTheyCannotMultiply) {
  const QuantizedTensor a = integers(uneven(8, 64), spec_of(OuterScale::kRow));
  const Product& product = find_product("int8");
  EXPECT_NE(
      message_of<InputError>([&] { multiply(product, QuantizedTensor::bf16(uneven(8, 64)), a); }).find("expected int8"),
      std::string::npos);
  QuantizedTensor cut = a;
  cut.outer_scales = cut.outer_scales.expand({8, 5});
  EXPECT_NE(message_of<InputError>([&] { multiply(product, cut, a); }).find("5 scales for rows of 64"),
            std::string::npos);
  const auto long_one = [](OuterScale each) { return integers(uneven(8, 2048), spec_of(each)); };
  const auto unequal = [&](OuterScale x, OuterScale w) {
    return message_of<InputError>([&] { multiply(product, long_one(x), long_one(w)); });
  };
  EXPECT_NE(unequal(OuterScale::kRow, OuterScale::k1x512).find("a has a scale for a row, b one for 512"),
            std::string::npos);
  EXPECT_NE(unequal(OuterScale::k1x128, OuterScale::k1x512).find("a has a scale for 128, b one for 512"),
            std::string::npos);
  at::Tensor narrow = at::empty({8, 8}, at::kBFloat16);
  EXPECT_THROW(multiply_into(narrow, product, a, a, Accumulate::kAdd), InputError);
}

TEST(Int8Products, HaveTheSameBitsOnAGpu) {
  if (!gpu_usable() || !int8::available(at::Device(at::kCUDA, 0))) GTEST_SKIP() << "no GPU with INT8 tensor cores";
  const Product& product = find_product("int8");
  for (const OuterScale each : kEach) {
    for (const auto& [m, n, k] : {std::array<std::int64_t, 3>{300, 520, 1100}, {1024, 640, 4096}, {17, 48, 16}}) {
      const at::Tensor x = uneven(m, k);
      const at::Tensor w = uneven(n, k);
      const QuantizedTensor a = integers(x, spec_of(each));
      const QuantizedTensor b = integers(w, spec_of(each, Rounding::kStochastic));
      const QuantizedTensor a_gpu = integers(x.to(at::kCUDA), spec_of(each));
      const QuantizedTensor b_gpu = integers(w.to(at::kCUDA), spec_of(each, Rounding::kStochastic));
      EXPECT_TRUE(at::equal(a_gpu.values.cpu(), a.values)) << name_of(each);
      EXPECT_TRUE(at::equal(a_gpu.outer_scales.cpu(), a.outer_scales)) << name_of(each);
      EXPECT_TRUE(at::equal(multiply(product, a_gpu, b_gpu).cpu(), multiply(product, a, b))) << name_of(each);
      at::Tensor cpu = at::randn({m, n});
      at::Tensor gpu = cpu.to(at::kCUDA);
      multiply_into(cpu, product, a, b, Accumulate::kAdd);
      multiply_into(gpu, product, a_gpu, b_gpu, Accumulate::kAdd);
      EXPECT_TRUE(at::equal(gpu.cpu(), cpu)) << name_of(each);
    }
  }
}

}  // namespace
}  // namespace ufp4
