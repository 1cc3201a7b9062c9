// The layers against plain loops in FP64, and as sources of a quantization against their own written results.
#include "cuda/layers.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <list>

#include "cuda/device_case.h"
#include "cuda/quantize.h"
#include "cuda/rotary.h"
#include "ufp4/error.h"

namespace ufp4 {
namespace {

using cuda::Bf16;
using testing::DeviceBytes;
using testing::make_matrix;
using testing::Values;

class CudaLayers : public ::testing::Test {
 protected:
  void SetUp() override {
    const cuda::DeviceStatus status = cuda::device_status();
    if (!status.usable) GTEST_SKIP() << status.sentence;
  }
};

struct Shape {
  std::int64_t rows, columns;
};
constexpr std::array kShapes{Shape{1, 8}, Shape{37, 72}, Shape{130, 64}, Shape{300, 640}, Shape{129, 2056}};

DeviceBytes normal_bf16(std::int64_t rows, std::int64_t columns, std::uint64_t seed) {
  return DeviceBytes(make_matrix(rows, columns, DType::kBF16, Values::kNormal, seed).bytes);
}

DeviceBytes normal_f32(std::int64_t count, std::uint64_t seed) {
  return DeviceBytes(make_matrix(1, count, DType::kF32, Values::kNormal, seed).bytes);
}

std::vector<double> values(const DeviceBytes& bf16) {
  std::vector<double> result;
  for (const Bf16 x : bf16.fetch_as<Bf16>()) result.push_back(bf16_to_float(x));
  return result;
}

// Within the rounding to BF16, once or, with a residual, twice.
void expect_near(const std::vector<double>& found, const std::vector<double>& expected, double scale = 1) {
  ASSERT_EQ(found.size(), expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    ASSERT_NEAR(found[i], expected[i], (std::abs(expected[i]) + scale * 1e-3) * 0x1p-8) << "at " << i;
  }
}

double silu(double x) { return x / (1 + std::exp(-x)); }
double silu_slope(double x) {
  const double s = 1 / (1 + std::exp(-x));
  return s + x * s * (1 - s);
}

TEST_F(CudaLayers, Swiglu) {
  for (const auto [rows, columns] : kShapes) {
    const DeviceBytes h = normal_bf16(rows, 2 * columns, 1);
    const DeviceBytes dy = normal_bf16(rows, columns, 2);
    const auto n = static_cast<std::size_t>(rows * columns);
    const DeviceBytes y(2 * n);
    const DeviceBytes dh(4 * n);
    cuda::compute(cuda::Swiglu{rows, columns, h.as<Bf16>()}, y.as<Bf16>(), nullptr);
    cuda::compute(cuda::SwigluBackward{rows, columns, h.as<Bf16>(), dy.as<Bf16>()}, dh.as<Bf16>(), nullptr);
    const std::vector<double> in = values(h);
    const std::vector<double> gradient = values(dy);
    std::vector<double> expected_y(n);
    std::vector<double> expected_dh(2 * n);
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t c = 0; c < columns; ++c) {
        const auto gate = static_cast<std::size_t>(2 * r * columns + c);
        const auto up = gate + static_cast<std::size_t>(columns);
        const auto at = static_cast<std::size_t>(r * columns + c);
        expected_y[at] = silu(in[gate]) * in[up];
        expected_dh[gate] = gradient[at] * in[up] * silu_slope(in[gate]);
        expected_dh[up] = gradient[at] * silu(in[gate]);
      }
    }
    expect_near(values(y), expected_y);
    expect_near(values(dh), expected_dh);
  }
}

TEST_F(CudaLayers, SigmoidAtTheEndsOfTheRange) {
  std::vector<std::uint8_t> bytes;
  for (const float gate : {-3e38F, -200.0F, -90.0F, 90.0F, 200.0F, 3e38F, -0.0F, 0.0F}) {
    const std::uint16_t bits = float_to_bf16(gate);
    bytes.push_back(static_cast<std::uint8_t>(bits & 0xFF));
    bytes.push_back(static_cast<std::uint8_t>(bits >> 8));
  }
  for (int i = 0; i < 8; ++i) bytes.insert(bytes.end(), {0x80, 0x3F});  // up: 1
  const DeviceBytes h(bytes);
  const DeviceBytes y(16);
  cuda::compute(cuda::Swiglu{1, 8, h.as<Bf16>()}, y.as<Bf16>(), nullptr);
  const std::vector<double> found = values(y);
  EXPECT_EQ(found[0], 0);
  EXPECT_EQ(found[1], 0);
  EXPECT_NEAR(found[2], 0, 1e-30);
  EXPECT_EQ(found[3], 90);
  EXPECT_EQ(found[4], 200);
  EXPECT_EQ(found[5], bf16_to_float(float_to_bf16(3e38F)));
  EXPECT_EQ(found[6], 0);
  EXPECT_EQ(found[7], 0);
}

TEST_F(CudaLayers, RmsNormForwardAndBackward) {
  constexpr double kEpsilon = 1e-5;
  for (const Shape& shape : kShapes) {
    const std::int64_t rows = shape.rows;
    const std::int64_t columns = shape.columns;
    const DeviceBytes x = normal_bf16(rows, columns, 3);
    const DeviceBytes branch = normal_bf16(rows, columns, 4);
    const DeviceBytes weight = normal_f32(columns, 5);
    const DeviceBytes dy = normal_bf16(rows, columns, 6);
    const auto n = static_cast<std::size_t>(rows * columns);
    const DeviceBytes sum(2 * n);
    const DeviceBytes rstd(4 * static_cast<std::size_t>(rows));
    const DeviceBytes y(2 * n);
    const DeviceBytes dx(2 * n);
    const DeviceBytes dx_alone(2 * n);
    const DeviceBytes dweight(4 * static_cast<std::size_t>(columns));
    const DeviceBytes again(4 * static_cast<std::size_t>(columns));
    const DeviceBytes workspace(4 * static_cast<std::size_t>(cuda::rms_norm_backward_workspace(rows, columns)));
    cuda::rms_statistics({rows, columns, x.as<Bf16>(), branch.as<Bf16>(), sum.as<Bf16>(), rstd.as<float>(), kEpsilon},
                         nullptr);
    cuda::compute(cuda::RmsNorm{rows, columns, sum.as<Bf16>(), weight.as<float>(), rstd.as<float>()}, y.as<Bf16>(),
                  nullptr);
    cuda::RmsNormBackward p{rows,          columns, sum.as<Bf16>(),      weight.as<float>(),  rstd.as<float>(),
                            dy.as<Bf16>(), nullptr, dx_alone.as<Bf16>(), dweight.as<float>(), workspace.as<float>()};
    cuda::rms_norm_backward(p, nullptr);
    p.residual = x.as<Bf16>();
    p.dx = dx.as<Bf16>();
    p.dweight = again.as<float>();
    cuda::rms_norm_backward(p, nullptr);

    const std::vector<double> a = values(x);
    const std::vector<double> b = values(branch);
    const std::vector<double> s = values(sum);
    const std::vector<double> g = values(dy);
    const std::vector<float> w = weight.fetch_as<float>();
    const std::vector<float> factor = rstd.fetch_as<float>();
    const std::vector<double> alone = values(dx_alone);
    std::vector<double> expected_y(n);
    std::vector<double> expected_dx(n);
    std::vector<double> expected_dweight(static_cast<std::size_t>(columns));
    for (std::int64_t r = 0; r < rows; ++r) {
      double square = 0;
      double mean = 0;
      const auto at = [&](std::int64_t c) { return static_cast<std::size_t>(r * columns + c); };
      for (std::int64_t c = 0; c < columns; ++c) {
        ASSERT_EQ(s[at(c)], bf16_to_float(float_to_bf16(static_cast<float>(a[at(c)]) + static_cast<float>(b[at(c)]))));
        square += s[at(c)] * s[at(c)];
      }
      const double inverse = 1 / std::sqrt(square / static_cast<double>(columns) + kEpsilon);
      ASSERT_NEAR(factor[static_cast<std::size_t>(r)], inverse, 1e-5 * inverse);
      for (std::int64_t c = 0; c < columns; ++c) {
        const auto k = static_cast<std::size_t>(c);
        expected_y[at(c)] = s[at(c)] * inverse * w[k];
        mean += g[at(c)] * w[k] * s[at(c)] * inverse / static_cast<double>(columns);
        expected_dweight[k] += g[at(c)] * s[at(c)] * inverse;
      }
      for (std::int64_t c = 0; c < columns; ++c) {
        expected_dx[at(c)] = inverse * (g[at(c)] * w[static_cast<std::size_t>(c)] - s[at(c)] * inverse * mean);
      }
    }
    expect_near(values(y), expected_y);
    expect_near(alone, expected_dx, 10);
    for (std::size_t i = 0; i < n; ++i) {  // the residual is added to the rounded gradient
      expected_dx[i] = bf16_to_float(float_to_bf16(static_cast<float>(a[i]) + static_cast<float>(alone[i])));
    }
    EXPECT_EQ(values(dx), expected_dx);
    const std::vector<float> once = dweight.fetch_as<float>();
    EXPECT_EQ(again.fetch_as<float>(), once);
    for (std::size_t c = 0; c < once.size(); ++c) {
      ASSERT_NEAR(once[c], expected_dweight[c], 1e-4 * (std::abs(expected_dweight[c]) + std::sqrt(rows)));
    }
  }
}

TEST_F(CudaLayers, Rounded) {
  for (const auto [rows, columns] : kShapes) {
    const DeviceBytes x = normal_f32(rows * columns, 11);
    const DeviceBytes y(static_cast<std::size_t>(2 * rows * columns));
    cuda::compute(cuda::Rounded{rows, columns, x.as<float>()}, y.as<Bf16>(), nullptr);
    std::vector<Bf16> expected;
    for (const float value : x.fetch_as<float>()) expected.push_back(float_to_bf16(value));
    EXPECT_EQ(y.fetch_as<Bf16>(), expected);
  }
}

// Sequences of q, k and v, each in a tensor of its own: [batch, tokens, heads, size], or with the heads first in
// memory.
struct RotaryCase {
  std::int64_t batch, tokens, size;
  std::array<std::int64_t, 3> heads;
  bool heads_first;
};
constexpr std::array kRotaryCases{RotaryCase{1, 1, 16, {1, 1, 1}, false},    RotaryCase{37, 1, 16, {2, 1, 1}, false},
                                  RotaryCase{3, 37, 64, {3, 1, 1}, false},   RotaryCase{1, 130, 48, {4, 2, 2}, true},
                                  RotaryCase{2, 129, 128, {2, 2, 2}, false}, RotaryCase{1, 70, 256, {2, 1, 1}, false}};

struct RotaryData {
  std::list<DeviceBytes> parts;
  DeviceBytes table;
  cuda::RotaryBackward layer;

  explicit RotaryData(const RotaryCase& c) : table(normal_f32(c.tokens * c.size, 12)) {
    layer.rows = c.batch * c.tokens;
    layer.table = table.as<float>();
    layer.tokens = c.tokens;
    layer.size = c.size;
    for (std::size_t i = 0; i < 3; ++i) {
      const std::int64_t heads = c.heads[i];
      layer.columns += heads * c.size;
      parts.emplace_back(make_matrix(layer.rows, heads * c.size, DType::kBF16, Values::kNormal, 20 + i).bytes);
      const std::int64_t token_stride = c.heads_first ? c.size : heads * c.size;
      layer.parts[i] = {parts.back().as<Bf16>(),
                        c.tokens * token_stride,
                        token_stride,
                        c.heads_first ? c.tokens * c.size : c.size,
                        heads,
                        i != 2};
    }
  }
};

TEST_F(CudaLayers, RotaryBackwardIsTheRotationBack) {
  for (const RotaryCase& c : kRotaryCases) {
    const RotaryData data(c);
    const cuda::RotaryBackward& layer = data.layer;
    const auto bytes = static_cast<std::size_t>(2 * layer.rows * layer.columns);
    const DeviceBytes found(bytes);
    const DeviceBytes expected(bytes);
    cuda::compute(layer, found.as<Bf16>(), nullptr);
    cuda::RotaryArgs args;
    std::copy(std::begin(layer.parts), std::end(layer.parts), std::begin(args.parts));
    args.to = expected.as<Bf16>();
    args.all_heads = layer.columns / layer.size;
    args.table = layer.table;
    args.direction = -1;
    args.batch = c.batch;
    args.tokens = c.tokens;
    args.size = c.size;
    cuda::rotary(args, nullptr);
    EXPECT_TRUE(found.fetch() == expected.fetch()) << c.batch << " x " << c.tokens << " x " << c.size;
  }
}

struct Outputs {
  DeviceBytes codes, scales, values, amax, outer_scales;
  DeviceTask task;

  Outputs(const OperandSpec& spec, const Place& place, std::int64_t rows, std::int64_t columns, bool packed)
      : Outputs(spec, place, quantized_shape(rows, columns, spec, place.axis), packed) {}

  bool operator==(const Outputs& other) const {
    return codes.fetch() == other.codes.fetch() && scales.fetch() == other.scales.fetch() &&
           values.fetch() == other.values.fetch() && amax.fetch() == other.amax.fetch() &&
           outer_scales.fetch() == other.outer_scales.fetch();
  }

  cuda::AmaxTask amax_task() const { return {task.task.spec, task.task.place, amax.as<float>()}; }

 private:
  Outputs(const OperandSpec& spec, const Place& place, const QuantizedShape& shape, bool packed)
      : codes(static_cast<std::size_t>(shape.rows * shape.columns / 2)),
        scales(static_cast<std::size_t>(shape.rows * shape.scales_per_row * 4)),
        values(static_cast<std::size_t>(shape.rows * shape.columns * 2)),
        amax(std::vector<std::uint8_t>(4)),
        outer_scales(4) {
    task.task.spec = spec;
    task.task.place = place;
    Quantized& out = task.task.out;
    if (packed) {
      out.codes = codes.as<std::uint8_t>();
      out.packed_scales = scales.as<std::uint8_t>();
    } else if (spec.format->exact == ExactValue::kE4m3) {
      out.e4m3 = values.as<std::uint8_t>();
    } else {
      out.dequantized = values.data();
    }
    out.outer_scales = outer_scales.as<float>();
    if (spec.format->has_outer_scale()) task.task.outer_amax = amax.as<float>();
  }
};

// Of formats with second-level scales: found before anything is quantized.
template <typename Input>
void quantize_exactly(const Input& input, std::initializer_list<const Outputs*> outputs) {
  std::vector<cuda::AmaxTask> amax;
  std::vector<DeviceTask> tasks;
  for (const Outputs* out : outputs) {
    tasks.push_back(out->task);
    if (out->task.task.spec.format->has_outer_scale()) amax.push_back(out->amax_task());
  }
  cuda::raise_outer_amax(input, amax, nullptr);
  cuda::quantize(input, tasks, nullptr);
}

constexpr auto kEveryPolicy = {"e1m2",          "int4_full", "e2m1",  "int4_p2", "nvfp4", "nvint4",
                               "four_over_six", "mixfp4",    "mxfp4", "mxint4",  "hif4"};

// The result of `layer`, [rows, columns], quantized from memory and without it.
template <typename Layer>
void expect_fused_equals_parts(const Layer& layer, std::int64_t rows, std::int64_t columns,
                               std::initializer_list<const char*> formats = kEveryPolicy) {
  const auto bytes = static_cast<std::size_t>(2 * rows * columns);
  const DeviceBytes written(bytes);
  cuda::compute(layer, written.as<Bf16>(), nullptr);
  const ConstMatrix matrix{written.data(), DType::kBF16, rows, columns, columns};
  std::uint32_t seed = 0;
  for (const char* format : formats) {
    for (const Rounding rounding : {Rounding::kNearest, Rounding::kStochastic}) {
      for (const int hadamard : {0, 16, 32}) {
        ++seed;
        const bool stash = seed % 2 == 0;  // as in the forward pass: values of the rows, codes of the columns
        const OperandSpec of_row{&find_format(format), 0, rounding, make_hadamard(hadamard, seed)};
        const OperandSpec of_column{&find_format(format), 0, rounding, make_hadamard(16, seed)};
        const Place row_place{Axis::kRow, seed, 1, 2, 8, 3};
        const Place column_place{Axis::kColumn, seed, 1, 9, 8, 3};
        const auto expect_equal = [&](bool with_row, bool with_column) {
          const Outputs parts[2]{{of_row, row_place, rows, columns, false},
                                 {of_column, column_place, rows, columns, stash}};
          const Outputs fused[2]{{of_row, row_place, rows, columns, false},
                                 {of_column, column_place, rows, columns, stash}};
          if (with_row && with_column) {
            quantize_exactly(matrix, {&parts[0], &parts[1]});
            quantize_exactly(layer, {&fused[0], &fused[1]});
          } else {
            quantize_exactly(matrix, {&parts[with_row ? 0 : 1]});
            quantize_exactly(layer, {&fused[with_row ? 0 : 1]});
          }
          const std::string what = std::string(format) + " " + std::string(name_of(rounding)) + " hadamard " +
                                   std::to_string(hadamard) + " [" + std::to_string(rows) + ", " +
                                   std::to_string(columns) + "]";
          EXPECT_TRUE(fused[0] == parts[0]) << "rows of " << what;
          EXPECT_TRUE(fused[1] == parts[1]) << "columns of " << what;
        };
        expect_equal(true, true);
        expect_equal(true, false);
        expect_equal(false, true);
      }
    }
  }
}

TEST_F(CudaLayers, QuantizedWithoutBeingWritten) {
  for (const auto [rows, columns] : kShapes) {
    const DeviceBytes x = normal_bf16(rows, columns, 7);
    const DeviceBytes h = normal_bf16(rows, 2 * columns, 8);
    const DeviceBytes weight = normal_f32(columns, 9);
    const DeviceBytes rstd = normal_f32(rows, 10);
    expect_fused_equals_parts(cuda::RmsNorm{rows, columns, x.as<Bf16>(), weight.as<float>(), rstd.as<float>()}, rows,
                              columns);
    expect_fused_equals_parts(cuda::Swiglu{rows, columns, h.as<Bf16>()}, rows, columns);
    expect_fused_equals_parts(cuda::SwigluBackward{rows, columns, h.as<Bf16>(), x.as<Bf16>()}, rows, 2 * columns);
    const DeviceBytes master = normal_f32(rows * columns, 11);
    expect_fused_equals_parts(cuda::Rounded{rows, columns, master.as<float>()}, rows, columns);
  }
  for (const RotaryCase& c : kRotaryCases) {
    const RotaryData data(c);
    expect_fused_equals_parts(data.layer, data.layer.rows, data.layer.columns);
  }
}

// As in training: a block makes several tiles, or pairs of them, one after the other.
TEST_F(CudaLayers, QuantizedInMoreTilesThanTheDeviceTakesAtOnce) {
  constexpr std::int64_t kRows = 8200;
  constexpr std::int64_t kColumns = 1088;
  const DeviceBytes x = normal_bf16(kRows, 1024, 7);
  const DeviceBytes h = normal_bf16(kRows, 2 * kColumns, 8);
  const DeviceBytes weight = normal_f32(1024, 9);
  const DeviceBytes rstd = normal_f32(kRows, 10);
  const auto formats = {"e1m2", "int4_p2", "nvfp4", "mixfp4", "mxfp4"};
  expect_fused_equals_parts(cuda::RmsNorm{kRows, 1024, x.as<Bf16>(), weight.as<float>(), rstd.as<float>()}, kRows, 1024,
                            formats);
  expect_fused_equals_parts(cuda::Swiglu{kRows, kColumns, h.as<Bf16>()}, kRows, kColumns, formats);
  expect_fused_equals_parts(cuda::SwigluBackward{kRows, 1024, h.as<Bf16>(), x.as<Bf16>()}, kRows, 2048, formats);
  for (const std::int64_t tokens : {2048, 2049}) {  // bands of four tiles down, and of one
    const RotaryData data({4, tokens, 128, {4, 2, 2}, false});
    expect_fused_equals_parts(data.layer, data.layer.rows, data.layer.columns, formats);
  }
}

TEST_F(CudaLayers, ErrorsNameWhatIsWrong) {
  alignas(16) std::array<Bf16, 64> somewhere{};  // never read: the calls are refused
  EXPECT_THROW(cuda::compute(cuda::Swiglu{4, 12, somewhere.data()}, somewhere.data(), nullptr), InputError);
  EXPECT_THROW(cuda::compute(cuda::Swiglu{4, 8, nullptr}, somewhere.data(), nullptr), InputError);
  EXPECT_THROW(cuda::compute(cuda::Swiglu{4, 8, somewhere.data() + 1}, somewhere.data(), nullptr), InputError);
  EXPECT_THROW(cuda::compute(cuda::Swiglu{4, 8, somewhere.data()}, nullptr, nullptr), InputError);
  cuda::RotaryBackward turned{4, 48, {}, reinterpret_cast<float*>(somewhere.data()), 4, 16};
  for (cuda::RotaryPart& part : turned.parts) part = {somewhere.data(), 64, 16, 16, 1, true};
  turned.tokens = 3;
  EXPECT_THROW(cuda::compute(turned, somewhere.data(), nullptr), InputError);
  turned.tokens = 2;
  turned.parts[1].batch_stride = 48;
  EXPECT_THROW(cuda::compute(turned, somewhere.data(), nullptr), InputError);
  turned.tokens = 4;
  turned.size = 8;
  EXPECT_THROW(cuda::compute(turned, somewhere.data(), nullptr), InputError);
  EXPECT_THROW(cuda::rms_statistics({4, 8, somewhere.data(), somewhere.data(), nullptr, nullptr, 0}, nullptr),
               InputError);
  DeviceTask wide;
  wide.task.spec = {&find_format("e1m2"), 128};
  EXPECT_THROW(cuda::quantize(cuda::Swiglu{4, 8, somewhere.data()}, {&wide, 1}, nullptr), InputError);
  EXPECT_NO_THROW(cuda::compute(cuda::Swiglu{0, 8, nullptr}, nullptr, nullptr));
}

// It needs no device.
TEST(CudaLayersTake, WhatATileHolds) {
  OperandSpec spec;
  spec.format = &find_format("e1m2");
  for (const int size : {16, 32, 64, 128}) {
    spec.hadamard = make_hadamard(size, 1);
    EXPECT_EQ(cuda::layers_take(spec, Axis::kRow), size <= 64) << size;
    EXPECT_TRUE(cuda::layers_take(spec, Axis::kColumn)) << size;
  }
  spec.hadamard = {};
  spec.block = 128;
  EXPECT_FALSE(cuda::layers_take(spec, Axis::kRow));
  spec.block = 0;
  for (const BlockFormat& format : formats()) {
    spec.format = &format;
    EXPECT_TRUE(cuda::layers_take(spec, Axis::kRow)) << format.name;
  }
  spec.format = &find_format("int4_p2");
  spec.outer.each = OuterScale::k128x128;
  EXPECT_TRUE(cuda::layers_take(spec, Axis::kRow));
  spec.hadamard = make_hadamard(16, 1);
  spec.hadamard.round_to_bf16 = true;
  EXPECT_FALSE(cuda::layers_take(spec, Axis::kRow));
}

}  // namespace
}  // namespace ufp4
