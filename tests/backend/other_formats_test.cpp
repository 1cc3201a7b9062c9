// Formats of a known rule with other numbers in their rows than the library's own: whatever a backend computes with
// must come from the row. A GPU's bits for them: tests/cuda.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "ufp4/backend.h"

namespace ufp4 {
namespace {

BlockFormat derived(std::string_view from, std::string_view name) {
  BlockFormat format = find_format(from);
  format.name = name;
  return format;
}

std::vector<BlockFormat> other_formats() {
  BlockFormat window = derived("int4_p2", "other_window");
  window.outer_divisor = 14;
  window.window = {.least = -4, .largest = 1};
  window.outer_least = 0x1p-100F;
  BlockFormat e4m3 = derived("nvfp4", "small_floats");
  e4m3.element = find_format("e2m1_max3").element;
  e4m3.outer_divisor = 1344;
  BlockFormat integers = derived("nvint4", "other_integers");
  integers.outer_divisor = 1000;
  BlockFormat best = derived("four_over_six", "low_best");
  best.alternative.largest = 3;
  best.outer_divisor = 1344;
  BlockFormat exponents = derived("mxfp4", "small_exponents");
  exponents.element = find_format("e2m1_max4").element;
  return {window, e4m3, integers, best, exponents};
}

// Rows of all sizes, so that every range of scales occurs.
std::vector<float> values(std::int64_t rows, std::int64_t columns) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  std::vector<float> result;
  for (std::int64_t r = 0; r < rows; ++r) {
    const int exponent = static_cast<int>(random() % 17) - 12;
    for (std::int64_t c = 0; c < columns; ++c) {
      result.push_back(random() % 9 == 0 ? 0.0F : std::ldexp(normal(random), exponent));
    }
  }
  return result;
}

struct Everything {
  std::vector<std::uint8_t> codes, packed_scales;
  std::vector<float> scales, dequantized, outer_scales;

  bool operator==(const Everything&) const = default;
};

Everything quantize(const Backend& backend, const ConstMatrix& in, const OperandSpec& spec, const Place& place) {
  const QuantizedShape shape = quantized_shape(in.rows, in.columns, spec, place.axis);
  const OuterShape outer = outer_shape(shape, spec.outer_each());
  const auto elements = static_cast<std::size_t>(shape.rows * shape.columns);
  const auto blocks = static_cast<std::size_t>(shape.rows * shape.scales_per_row);
  Everything out{std::vector<std::uint8_t>(elements / 2), std::vector<std::uint8_t>(blocks), std::vector<float>(blocks),
                 std::vector<float>(elements),
                 std::vector<float>(static_cast<std::size_t>(outer.rows * outer.columns))};
  QuantizeTask task{spec, place, {}, nullptr};
  task.out.codes = out.codes.data();
  task.out.packed_scales = out.packed_scales.data();
  task.out.scales = out.scales.data();
  task.out.dequantized = out.dequantized.data();
  task.out.dequantized_dtype = DType::kF32;
  task.out.outer_scales = out.outer_scales.data();
  backend.quantize(in, {&task, 1});
  return out;
}

TEST(OtherFormats, GiveTheReferencesBitsOnEveryBackend) {
  constexpr std::int64_t kRows = 300;
  constexpr std::int64_t kColumns = 200;
  const std::vector<float> data = values(kRows, kColumns);
  const ConstMatrix in{data.data(), DType::kF32, kRows, kColumns, kColumns};
  const Backend& reference = find_backend("scalar");
  for (const BlockFormat& format : other_formats()) {
    for (const OuterScale each : kOuterScales) {
      if (each != OuterScale::kTensor && !format.outer_scales.has(each)) continue;
      for (const Rounding rounding : {Rounding::kNearest, Rounding::kStochastic}) {
        for (const int hadamard : {0, 16}) {
          for (const Axis axis : {Axis::kRow, Axis::kColumn}) {
            const OperandSpec spec{&format, 0, rounding, make_hadamard(hadamard, 3), {each}};
            const Place place{axis, 1, 2, 3};
            const Everything expected = quantize(reference, in, spec, place);
            for (const Backend* backend : backends()) {
              if (!backend->available()) continue;
              EXPECT_TRUE(quantize(*backend, in, spec, place) == expected)
                  << backend->name() << " " << format.name << " " << name_of(each) << " " << name_of(rounding)
                  << " hadamard " << hadamard << " " << name_of(axis);
            }
          }
        }
      }
    }
  }
}

// The ends of the window, and the largest value that they allow, are those of the row.
TEST(OtherFormats, HaveTheWindowOfTheirRow) {
  const std::vector<BlockFormat> formats = other_formats();
  const OperandSpec spec{&formats[0]};
  std::vector<float> data(32, 0.0F);
  data[0] = 7;          // with the scale of the tensor 0.5, the largest power is needed
  data[16] = 0x1p-12F;  // and the least
  const ConstMatrix in{data.data(), DType::kF32, 1, 32, 32};
  const Everything out = quantize(find_backend("scalar"), in, spec, {});
  EXPECT_EQ(out.outer_scales[0], 0.5F);
  EXPECT_EQ(std::abs(out.scales[0]), 2.0F);
  EXPECT_EQ(std::abs(out.scales[1]), 0.0625F);
}

}  // namespace
}  // namespace ufp4
