// Second-level scales that follow from the step before, on the CPU and, where there is one, on a GPU with FP8 tensor
// cores: codes, bookkeeping, and the products of both ways to run a linear.
#include "torch/window.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "gpu_usable.h"
#include "message_of.h"
#include "numerics/reference.h"
#include "torch/operand.h"
#include "torch/products.h"
#include "ufp4/error.h"

namespace ufp4 {
namespace {

bool fp8_usable() { return gpu_usable() && find_product("fp8").available(at::Device(at::kCUDA, 0)); }

std::vector<at::Device> devices() {
  std::vector<at::Device> list{at::kCPU};
  if (fp8_usable()) list.emplace_back(at::kCUDA, 0);
  return list;
}

OperandSpec int4_p2(Rounding rounding = Rounding::kNearest) {
  return {.format = &find_format("int4_p2"), .rounding = rounding, .hadamard = {.size = 16}};
}

Place place_of(Axis axis) { return {.axis = axis, .seed = 11, .step = 3, .stream = 5}; }

OperandRequest request_of(const OperandSpec& spec, Axis axis, Form form, const Window& window = {}) {
  return {spec, {place_of(axis)}, form, window};
}

ConstMatrix view(const at::Tensor& matrix) {
  return {matrix.const_data_ptr(), DType::kBF16, matrix.size(0), matrix.size(1), matrix.size(1)};
}

// What the reference makes of a matrix whose amax is said to be `amax`: values in FP32, without the second-level scale.
at::Tensor reference_values(const at::Tensor& matrix, const OperandSpec& spec, Axis axis, float amax) {
  QuantizeTask task{spec, place_of(axis), {}, &amax};
  const QuantizedShape shape = quantized_shape(matrix.size(0), matrix.size(1), spec, axis);
  at::Tensor e4m3 = at::empty({shape.rows, shape.columns}, at::kByte);
  task.out.e4m3 = e4m3.mutable_data_ptr<std::uint8_t>();
  reference::quantize(view(matrix), task);
  return e4m3.view(at::kFloat8_e4m3fn).to(at::kFloat);
}

float amax_of(const at::Tensor& matrix, const OperandSpec& spec, Axis axis) {
  return find_backend("scalar").tensor_amax(view(matrix), spec, place_of(axis));
}

at::Tensor values_of(const QuantizedTensor& made) { return made.values.cpu().to(at::kFloat); }

float seen(const Windows& windows, OperandRole role) {
  return windows.seen().cpu()[1][static_cast<std::int64_t>(role)].item<float>();
}

std::int64_t left(const Windows& windows, OperandRole role) {
  return windows.left().cpu()[1][static_cast<std::int64_t>(role)].item<std::int64_t>();
}

// Twice the largest numbers is no number: what is expected stays one, and a smaller operand leaves its window.
TEST(Windows, NoMagnitudeIsTooLargeToBeExpected) {
  for (const at::Device& device : devices()) {
    Windows windows(2, device);
    for (const double size : {3e38, 1e38, 1.4e36, 1e36, 1.0}) {
      at::Tensor matrix = at::ones_like(at::randn({16, 32}), at::kBFloat16);
      matrix[3][5] = size;
      windows.begin_step();
      OperandSpec plain = int4_p2();
      plain.hadamard = {};
      const QuantizedTensor made =
          quantize(Source::matrix(matrix.to(device)),
                   request_of(plain, Axis::kRow, Form::kE4m3, windows.at(1, OperandRole::kFpropX)));
      const float scale = made.outer_scales.cpu().item<float>();
      EXPECT_TRUE(std::isfinite(scale)) << size;
      const double back = static_cast<double>(values_of(made)[3][5].item<float>()) * static_cast<double>(scale);
      EXPECT_NEAR(back / size, 1, 0.13) << device << ", " << size;
    }
  }
}

// A step that fits is quantized for twice what the step before held; one that does not, for what it holds itself.
TEST(Windows, FollowTheStepBefore) {
  for (const at::Device& device : devices()) {
    for (const Rounding rounding : {Rounding::kNearest, Rounding::kStochastic}) {
      Windows windows(2, device);
      float expected = 0;
      for (const double size : {1.0, 1.5, 0.9, 40.0, 39.0, 1e-3, 1e-3, 0.0, 2.0}) {
        const at::Tensor matrix = (at::randn({48, 80}) * size).to(at::kBFloat16);
        windows.begin_step();
        const OperandRequest row =
            request_of(int4_p2(rounding), Axis::kRow, Form::kE4m3, windows.at(1, OperandRole::kFpropX));
        const OperandRequest column =
            request_of(int4_p2(rounding), Axis::kColumn, Form::kE4m3, windows.at(1, OperandRole::kWgradX));
        const BothOperands made = quantize_both(Source::matrix(matrix.to(device)), row, column);
        const float found = amax_of(matrix, row.spec, Axis::kRow);
        const bool again = found > 0 && (found > expected || found * 256 < expected);
        const float used = again ? found : expected;
        const std::string what = device.str() + ", size " + std::to_string(size);
        EXPECT_TRUE(at::equal(values_of(made.row), reference_values(matrix, row.spec, Axis::kRow, used))) << what;
        EXPECT_EQ(made.row.outer_scales.cpu().item<float>(), used / 224) << what;
        EXPECT_EQ(seen(windows, OperandRole::kFpropX), found) << what;
        EXPECT_EQ(left(windows, OperandRole::kFpropX), again && expected > 0 ? 1 : 0) << what;
        EXPECT_EQ(seen(windows, OperandRole::kWgradX), amax_of(matrix, column.spec, Axis::kColumn)) << what;
        EXPECT_EQ(seen(windows, OperandRole::kDgradW), 0);
        expected = 2 * found;
      }
    }
  }
}

TEST(Windows, FrozenOnesLeaveNoTrace) {
  for (const at::Device& device : devices()) {
    Windows windows(2, device);
    const Windows frozen = windows.frozen();
    const at::Tensor matrix = at::randn({32, 32}).to(at::kBFloat16);
    const auto use = [&](const Windows& of) {
      return quantize(Source::matrix(matrix.to(device)),
                      request_of(int4_p2(), Axis::kRow, Form::kE4m3, of.at(1, OperandRole::kDgradDy)));
    };
    use(frozen);
    EXPECT_EQ(seen(windows, OperandRole::kDgradDy), 0);
    use(windows);
    windows.begin_step();
    const QuantizedTensor made = use(frozen);
    EXPECT_EQ(made.outer_scales.cpu().item<float>(), 2 * amax_of(matrix, int4_p2(), Axis::kRow) / 224);
    EXPECT_EQ(seen(windows, OperandRole::kDgradDy), 0);
    EXPECT_EQ(left(windows, OperandRole::kDgradDy), 0);
  }
}

// A block that is not finite stays NaN, is no part of any amax and spoils no other block.
TEST(Windows, NanStaysWhereItIs) {
  for (const at::Device& device : devices()) {
    at::Tensor matrix = at::randn({16, 64}).to(at::kBFloat16);
    matrix[3][20] = std::nan("");
    matrix[4][0] = INFINITY;
    Windows windows(2, device);
    const OperandRequest request = request_of(int4_p2(), Axis::kRow, Form::kE4m3, windows.at(1, OperandRole::kFpropX));
    const QuantizedTensor made = quantize(Source::matrix(matrix.to(device)), request);
    const at::Tensor nan = values_of(made).isnan();
    EXPECT_EQ(nan.sum().item<std::int64_t>(), 32) << device;
    EXPECT_TRUE(nan[3][16].item<bool>() && nan[3][31].item<bool>() && nan[4][0].item<bool>()) << device;
    const float amax = seen(windows, OperandRole::kFpropX);
    EXPECT_TRUE(std::isfinite(amax) && amax == amax_of(matrix, request.spec, Axis::kRow)) << device;
  }
}

TEST(Windows, WithoutOneTheAmaxIsExact) {
  for (const at::Device& device : devices()) {
    const at::Tensor matrix = at::randn({40, 48}).to(at::kBFloat16);
    for (const Axis axis : {Axis::kRow, Axis::kColumn}) {
      const QuantizedTensor made =
          quantize(Source::matrix(matrix.to(device)), request_of(int4_p2(), axis, Form::kE4m3));
      const float amax = amax_of(matrix, int4_p2(), axis);
      EXPECT_EQ(made.outer_scales.cpu().item<float>(), amax / 224);
      EXPECT_TRUE(at::equal(values_of(made), reference_values(matrix, int4_p2(), axis, amax)));
    }
  }
}

// The rest needs the tensor cores.
class Fp8 : public testing::Test {
 protected:
  void SetUp() override {
    if (!fp8_usable()) GTEST_SKIP() << "no GPU with FP8 tensor cores, or a build without CUDA";
  }

  static QuantizedTensor operand(const at::Tensor& matrix) {
    return quantize(Source::matrix(matrix.to(at::kBFloat16).to(at::kCUDA)),
                    request_of(int4_p2(), Axis::kRow, Form::kE4m3));
  }

  static at::Tensor exact(const QuantizedTensor& a) {
    return a.values.cpu().to(at::kFloat).to(at::kDouble) * a.outer_scales.cpu().to(at::kDouble).item<double>();
  }
};

TEST_F(Fp8, ProductsAreExactToTheRoundingOfTheSum) {
  for (const auto& [m, n, k] :
       {std::array{64, 96, 128}, std::array{17, 48, 4096}, std::array{33, 64, 16384}, std::array{1, 16, 16}}) {
    const QuantizedTensor a = operand(at::randn({m, k}));
    const QuantizedTensor b = operand(at::randn({n, k}) * 0.02);
    const at::Tensor sum = at::mm(exact(a), exact(b).t());
    const double size = sum.abs().max().item<double>();
    const Product& fp8 = find_product("fp8");
    const at::Tensor f32 = multiply(fp8, a, b, at::kFloat);
    EXPECT_LT((f32.cpu().to(at::kDouble) - sum).abs().max().item<double>(), 2e-6 * size) << m << " " << n << " " << k;
    EXPECT_TRUE(at::equal(multiply(fp8, a, b), f32.to(at::kBFloat16))) << m << " " << n << " " << k;
    at::Tensor into = at::ones_like(f32);
    multiply_into(into, fp8, a, b, Accumulate::kAdd);
    EXPECT_LT((into - f32 - 1).abs().max().item<double>(), 2e-6 * (1 + size));
    multiply_into(into, fp8, a, b, Accumulate::kOverwrite);
    EXPECT_TRUE(at::equal(into, f32));
  }
}

TEST_F(Fp8, AnOperandThatWasPackedIsTheSame) {
  const Source source = Source::matrix(at::randn({80, 112}).to(at::kBFloat16).to(at::kCUDA));
  const QuantizedTensor direct = quantize(source, request_of(int4_p2(), Axis::kColumn, Form::kE4m3));
  const QuantizedTensor packed = quantize(source, request_of(int4_p2(), Axis::kColumn, Form::kPacked));
  const QuantizedTensor unpacked = unpack(packed, int4_p2(), Form::kE4m3);
  EXPECT_TRUE(at::equal(unpacked.values.view(at::kByte), direct.values.view(at::kByte)));
  EXPECT_TRUE(at::equal(unpacked.outer_scales, direct.outer_scales));
  const double bytes = static_cast<double>(packed.codes.nbytes() + packed.scales.nbytes());
  EXPECT_LE(bytes, 0.29 * 2 * 80 * 112);
}

TEST_F(Fp8, ShapesThatTensorCoresDoNotTakeAreNamed) {
  const QuantizedTensor a = operand(at::randn({16, 32}));
  const QuantizedTensor b = operand(at::randn({20, 32}));
  EXPECT_NE(message_of<InputError>([&] { multiply(find_product("fp8"), a, b); }).find("20 rows of b"),
            std::string::npos);
}

// A processor has no product of E4M3 numbers, but packed operands come back as such there too.
TEST(Fp8OnTheCpu, OperandsAreTheSameAndProductsAreElsewhere) {
  EXPECT_FALSE(find_product("fp8").available(at::kCPU));
  const Source source = Source::matrix(at::randn({80, 112}).to(at::kBFloat16));
  const QuantizedTensor direct = quantize(source, request_of(int4_p2(), Axis::kColumn, Form::kE4m3));
  const QuantizedTensor packed = quantize(source, request_of(int4_p2(), Axis::kColumn, Form::kPacked));
  const QuantizedTensor unpacked = unpack(packed, int4_p2(), Form::kE4m3);
  EXPECT_TRUE(at::equal(unpacked.values.view(at::kByte), direct.values.view(at::kByte)));
  EXPECT_TRUE(at::equal(unpacked.outer_scales, direct.outer_scales));
}

}  // namespace
}  // namespace ufp4
