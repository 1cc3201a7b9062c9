// The operands of any matrix against the scalar reference.
#include "test_devices.h"
#include "torch/operand.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/abs.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/nan_to_num.h>
#include <ATen/ops/randn.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "gpu_usable.h"
#include "message_of.h"
#include "numerics/reference.h"
#include "ufp4/error.h"
#include "ufp4/format.h"

namespace ufp4 {
namespace {

struct Case {
  std::int64_t rows;
  std::int64_t columns;
  const char* format;
  int hadamard;
  Rounding rounding;
  Axis axis;
  OuterScale outer = OuterScale::kOwn;
};

constexpr std::uint64_t kSeed = (std::uint64_t{1} << 63) + 12;

OperandSpec spec_of(const Case& c) {
  OperandSpec spec;
  spec.format = &find_format(c.format);
  spec.rounding = c.rounding;
  spec.hadamard = make_hadamard(c.hadamard, 11);
  spec.outer.each = c.outer;
  return spec;
}

// Offsets are those of the stored matrix.
Place place_of(const Case& c) {
  const bool row = c.axis == Axis::kRow;
  return {.axis = c.axis,
          .seed = kSeed,
          .step = 3,
          .stream = 5,
          .row_offset = row ? 40U : 8U,
          .column_offset = row ? 8U : 40U};
}

OperandRequest request_of(const Case& c, Form form) { return {spec_of(c), {place_of(c)}, form, {}}; }

// The operand as the reference makes it, in tensors.
QuantizedTensor reference_result(const at::Tensor& x, const Case& c) {
  QuantizedTensor result =
      allocate(SymShape{c.rows, c.columns}, spec_of(c), c.axis, at::TensorOptions(at::kByte), Form::kPacked);
  const QuantizeTask task{spec_of(c), place_of(c), destination(result), nullptr};
  reference::quantize({x.const_data_ptr(), DType::kBF16, c.rows, c.columns, c.columns}, task);
  return result;
}

std::vector<Case> cases() {
  std::vector<Case> list{{3, 5, "e1m2", 0, Rounding::kNearest, Axis::kRow},
                         {200, 150, "e1m2", 16, Rounding::kStochastic, Axis::kRow},
                         {200, 150, "int4_full", 32, Rounding::kStochastic, Axis::kColumn},
                         {1, 20000, "e2m1", 128, Rounding::kNearest, Axis::kRow},
                         {20000, 1, "e2m1", 0, Rounding::kStochastic, Axis::kColumn}};
  for (const OuterScale outer : {OuterScale::kRow, OuterScale::k1x128, OuterScale::k128x128}) {
    list.push_back({300, 270, "int4_p2", 16, Rounding::kNearest, Axis::kRow, outer});
    list.push_back({300, 270, "int4_p2", 0, Rounding::kStochastic, Axis::kColumn, outer});
  }
  for (const OuterScale outer : {OuterScale::kRow, OuterScale::k1x128, OuterScale::k1x1024}) {
    list.push_back({40, 2500, "int4_i4", 16, Rounding::kNearest, Axis::kRow, outer});
    list.push_back({1300, 70, "int4_i4", 0, Rounding::kStochastic, Axis::kColumn, outer});
  }
  for (const BlockFormat& format : formats()) {
    if (format.rule == ScaleRule::kAmax) continue;
    const char* name = format.name.data();  // of a literal
    list.push_back({200, 150, name, 16, Rounding::kStochastic, Axis::kRow});
    list.push_back({200, 150, name, 0, Rounding::kNearest, Axis::kColumn});
  }
  return list;
}

TEST(Ops, GiveTheBitsOfTheReferenceForAnyNumberOfThreads) {
  const int threads = at::get_num_threads();
  for (const Case& c : cases()) {
    const at::Tensor x = at::randn({c.rows, c.columns}).to(at::kBFloat16);
    const QuantizedTensor expected = reference_result(x, c);
    for (const int count : {1, 2, 5}) {
      at::set_num_threads(count);
      const QuantizedTensor found = quantize(Source::matrix(x), request_of(c, Form::kPacked));
      const std::string what = std::string(c.format) + " " + std::to_string(c.rows) + " " +
                               std::string(name_of(c.outer)) + " threads " + std::to_string(count);
      EXPECT_TRUE(at::equal(expected.codes, found.codes)) << what;
      EXPECT_TRUE(at::equal(expected.scales, found.scales)) << what;
      EXPECT_TRUE(at::equal(expected.outer_scales, found.outer_scales)) << what;
      EXPECT_TRUE(at::equal(unpack(found, spec_of(c), Form::kBf16).values,
                            quantize(Source::matrix(x), request_of(c, Form::kBf16)).values))
          << what;
      if (find_format(c.format).exact != ExactValue::kInt8) continue;
      const QuantizedTensor integers = quantize(Source::matrix(x), request_of(c, Form::kInt8));
      EXPECT_TRUE(at::equal(unpack(found, spec_of(c), Form::kInt8).values, integers.values)) << what;
      EXPECT_TRUE(at::equal(found.outer_scales, integers.outer_scales)) << what;
    }
    at::set_num_threads(threads);
  }
}

// Numbers in memory stand for those of the place: a step for the step, layers and tokens beside what is there.
TEST(Ops, NumbersInMemoryAreThoseOfThePlace) {
  const auto number = [](int value) { return at::full({1}, value, at::TensorOptions(at::kInt)); };
  for (const Axis axis : {Axis::kRow, Axis::kColumn}) {
    const Case c{60, 48, "e1m2", 16, Rounding::kStochastic, axis};
    const at::Tensor x = at::randn({c.rows, c.columns}).to(at::kBFloat16);
    OperandRequest request = request_of(c, Form::kPacked);
    Place& place = request.at.place;
    place.stream += kStreamsPerLayer * 2;
    (axis == Axis::kRow ? place.row_offset : place.column_offset) += 24;
    const QuantizedTensor expected = quantize(Source::matrix(x), request);
    OperandRequest other = request_of(c, Form::kPacked);
    other.at.place.step = 77;
    other.at.device = {number(3), number(2), number(24)};
    const QuantizedTensor found = quantize(Source::matrix(x), other);
    EXPECT_TRUE(at::equal(expected.codes, found.codes));
    EXPECT_TRUE(at::equal(expected.scales, found.scales));
  }
}

// Guards: what lies around the views in their storage is NaN, so that a read beyond a view shows.
class Strided : public testing::TestWithParam<Axis> {};

TEST_P(Strided, ViewsOfAnyStridesHaveTheBitsOfTheirCopies) {
  std::mt19937 random(7);
  const auto below = [&](std::int64_t n) { return static_cast<std::int64_t>(random() % static_cast<unsigned>(n)); };
  for (int i = 0; i < 200; ++i) {
    const Case c{1 + below(40), 1 + below(70), i % 2 == 0 ? "e1m2" : "int4_p2", 16, Rounding::kStochastic, GetParam()};
    const std::int64_t row_stride = below(3) == 0 ? below(c.columns + 1) : below(120);
    const std::int64_t column_stride = below(3);
    const std::int64_t reach = (c.rows - 1) * row_stride + (c.columns - 1) * column_stride + 1;
    const std::int64_t guard = 64;
    at::Tensor storage = at::full({reach + 2 * guard}, std::nan(""), at::kBFloat16);
    storage.narrow(0, guard, reach).copy_(at::randn({reach}));
    for (const at::Device& device : test_devices()) {
      const at::Tensor view = storage.to(device).as_strided({c.rows, c.columns}, {row_stride, column_stride}, guard);
      const std::string what =
          device.str() + " strides " + std::to_string(row_stride) + ", " + std::to_string(column_stride);
      for (const Form form : {Form::kPacked, Form::kBf16}) {
        const QuantizedTensor found = quantize(Source::matrix(view), request_of(c, form));
        const QuantizedTensor expected = quantize(Source::matrix(view.contiguous()), request_of(c, form));
        if (form == Form::kPacked) {
          EXPECT_TRUE(at::equal(found.codes, expected.codes)) << what;
          EXPECT_TRUE(at::equal(found.scales, expected.scales)) << what;
        } else {
          EXPECT_TRUE(at::equal(found.values, expected.values)) << what;
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Axes, Strided, testing::Values(Axis::kRow, Axis::kColumn),
                         [](const auto& axis) { return std::string(name_of(axis.param)); });

// With the number of the step in its memory, as a recorded training step has it.
TEST(Ops, AGpuMakesWhatTheCpuMakes) {
  if (!gpu_usable()) GTEST_SKIP() << "no GPU";
  const at::Tensor step = at::full({1}, 3, at::TensorOptions().dtype(at::kInt).device(at::kCUDA));
  for (const BlockFormat& format : formats()) {
    for (const Rounding rounding : {Rounding::kNearest, Rounding::kStochastic}) {
      const at::Tensor x = at::randn({200, 152}).to(at::kBFloat16);
      const at::Tensor x_gpu = x.to(at::kCUDA);
      const std::string what = std::string(format.name) + (rounding == Rounding::kNearest ? ", rtne" : ", sr");
      const auto request = [&](Axis axis, Form form, bool gpu) {
        OperandRequest result = request_of({200, 152, format.name.data(), 16, rounding, axis}, form);
        if (axis == Axis::kColumn) result.at.place.stream = 6;
        if (gpu) {
          result.at.place.step = 0;
          result.at.device.step = step;
        }
        return result;
      };
      const auto expect_equal = [&](const QuantizedTensor& gpu, const QuantizedTensor& cpu) {
        for (const auto part : {&QuantizedTensor::values, &QuantizedTensor::codes, &QuantizedTensor::scales}) {
          if (!(cpu.*part).defined()) continue;
          EXPECT_TRUE(at::equal((gpu.*part).cpu(), cpu.*part)) << what;
        }
      };
      for (const Axis axis : {Axis::kRow, Axis::kColumn}) {
        for (const Form form : {Form::kPacked, Form::kBf16}) {
          expect_equal(quantize(Source::matrix(x_gpu), request(axis, form, true)),
                       quantize(Source::matrix(x), request(axis, form, false)));
        }
      }
      for (const Form form : {Form::kPacked, Form::kBf16}) {
        const BothOperands cpu = quantize_both(Source::matrix(x), request(Axis::kRow, Form::kBf16, false),
                                               request(Axis::kColumn, form, false));
        const BothOperands gpu = quantize_both(Source::matrix(x_gpu), request(Axis::kRow, Form::kBf16, true),
                                               request(Axis::kColumn, form, true));
        expect_equal(gpu.row, cpu.row);
        expect_equal(gpu.column, cpu.column);
      }
    }
  }
}

// Bits an element of what the backward pass keeps.
TEST(Ops, PackedOperandsAreAsSmallAsTheirFormat) {
  const at::Tensor x = at::randn({128, 256}).to(at::kBFloat16);
  for (const auto& [name, bits] : {std::pair{"e1m2", 6.0},
                                   {"nvfp4", 4.5},
                                   {"nvint4", 4.5},
                                   {"four_over_six", 4.5},
                                   {"mixfp4", 4.5},
                                   {"int4_p2", 4.5},
                                   {"mxfp4", 4.25},
                                   {"mxint4", 4.25},
                                   {"hif4", 4.5}}) {
    OperandRequest request;
    request.spec.format = &find_format(name);
    request.form = Form::kPacked;
    const QuantizedTensor found = quantize(Source::matrix(x), request);
    EXPECT_EQ(8.0 * static_cast<double>(found.codes.nbytes() + found.scales.nbytes()) / (128 * 256), bits) << name;
    EXPECT_LE(found.outer_scales.numel(), 1) << name;
  }
}

// What is kept for the backward pass of a linear: its wgrad operand.
TEST(Ops, IntegerScalesKeepLessThanThreeTenthsOfBf16) {
  const at::Tensor x = at::randn({2048, 96}).to(at::kBFloat16);
  OperandRequest request = request_of({2048, 96, "int4_i4", 16, Rounding::kStochastic, Axis::kColumn}, Form::kPacked);
  const QuantizedTensor kept = quantize(Source::matrix(x), request);
  EXPECT_EQ(kept.outer_scales.sizes(), at::IntArrayRef({96, 4}));
  const std::size_t bytes = kept.codes.nbytes() + kept.scales.nbytes() + kept.outer_scales.nbytes();
  EXPECT_LE(static_cast<double>(bytes), 0.29 * static_cast<double>(x.nbytes()));
}

// Level times block scale as integers, at once and by way of packed codes, beside the same second-level scales; with
// blocks that are not finite.
TEST(Ops, Int8OperandsAreCodesTimesScales) {
  for (const Case& c : {Case{130, 1300, "int4_i4", 16, Rounding::kStochastic, Axis::kRow},
                        Case{1300, 70, "int4_i4", 0, Rounding::kNearest, Axis::kColumn, OuterScale::kRow}}) {
    at::Tensor x = at::randn({c.rows, c.columns}).to(at::kBFloat16);
    x.index_put_({at::full({1}, 3, at::kLong), at::full({1}, 40, at::kLong)}, at::full({1}, INFINITY, at::kBFloat16));
    const QuantizedTensor direct = quantize(Source::matrix(x), request_of(c, Form::kInt8));
    const QuantizedTensor packed = quantize(Source::matrix(x), request_of(c, Form::kPacked));
    const QuantizedTensor unpacked = unpack(packed, spec_of(c), Form::kInt8);
    EXPECT_EQ(direct.values.scalar_type(), at::kChar);
    EXPECT_TRUE(at::equal(direct.values, unpacked.values));
    EXPECT_LE(direct.values.abs().max().item<int>(), 120);
    const auto bits = [](const at::Tensor& t) { return t.contiguous().view(at::kInt); };
    EXPECT_TRUE(at::equal(bits(direct.outer_scales), bits(packed.outer_scales)));
    EXPECT_TRUE(at::equal(bits(unpacked.outer_scales), bits(packed.outer_scales)));
    EXPECT_EQ(direct.outer_scales.isnan().sum().item<int>(), 1);
    // The dequantized value is the integer times the scale of its segment.
    const at::Tensor values = quantize(Source::matrix(x), request_of(c, Form::kFp32)).values;
    const std::int64_t segment = c.outer == OuterScale::kRow ? values.size(1) : 512;
    const at::Tensor scales =
        direct.outer_scales.repeat_interleave(segment, 1).narrow(1, 0, values.size(1)).contiguous();
    const at::Tensor expected = direct.values.to(at::kFloat) * scales;
    EXPECT_TRUE(at::equal(expected.nan_to_num(7e30), values.nan_to_num(7e30)));
  }
  const Case other{40, 32, "int4_p2", 0, Rounding::kNearest, Axis::kRow};
  const at::Tensor x = at::randn({40, 32});
  EXPECT_NE(message_of<InputError>([&] {
              quantize(Source::matrix(x), request_of(other, Form::kInt8));
            }).find("the values of format 'int4_p2' are no INT8 numbers"),
            std::string::npos);
}

TEST(Ops, EmptyMatricesHaveTheirShapes) {
  OperandRequest request;
  request.spec.format = &find_format("e1m2");
  request.form = Form::kPacked;
  const at::Tensor x = at::empty({0, 20}, at::kBFloat16);
  EXPECT_EQ(quantize(Source::matrix(x), request).codes.sizes(), at::IntArrayRef({0, 16}));
  request.at.place.axis = Axis::kColumn;
  EXPECT_EQ(quantize(Source::matrix(x), request).codes.sizes(), at::IntArrayRef({20, 0}));
}

}  // namespace
}  // namespace ufp4
