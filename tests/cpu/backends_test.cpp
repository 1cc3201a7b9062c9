// Every SIMD backend of this machine against the scalar reference, bit for bit.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <random>
#include <vector>

#include "cpu/backends.h"
#include "cpu/job.h"
#include "quantization/cases.h"
#include "quantization/matrix.h"
#include "quantization/results.h"
#include "ufp4/error.h"

namespace ufp4 {
namespace {

using testing::describe;
using testing::first_difference;
using testing::has_block;
using testing::make_matrix;
using testing::Matrix;
using testing::quantize;
using testing::random_dtype;
using testing::random_task;
using testing::Results;
using testing::Values;
using testing::Wanted;

const Backend& scalar() { return find_backend("scalar"); }

std::vector<std::string> runnable_names() {
  std::vector<std::string> names;
  for (const Backend* backend : cpu::backends()) {
    if (backend->available()) names.emplace_back(backend->name());
  }
  return names;
}

class BackendTest : public ::testing::TestWithParam<std::string> {
 protected:
  const Backend& backend() const { return find_backend(GetParam()); }

  void expect_same(const ConstMatrix& in, const QuantizeTask& task, const Wanted& wanted = {}) const {
    const Results want = quantize(scalar(), in, task, wanted);
    ASSERT_EQ(first_difference(quantize(backend(), in, task, wanted), want), "") << describe(in, task);
  }
};

// A task whose bits are of none of the places that tests of single formats have.
QuantizeTask task_of(const BlockFormat& format, int block, Axis axis, Rounding rounding, int hadamard,
                     std::uint64_t seed) {
  QuantizeTask task{.spec = {.format = &format, .block = block, .rounding = rounding},
                    .place = {.axis = axis, .seed = seed, .step = 7, .stream = 3, .row_offset = 5, .column_offset = 16},
                    .out = {},
                    .outer_amax = nullptr};
  task.spec.hadamard = make_hadamard(hadamard, seed);
  return task;
}

// Rows that are not dense, from an odd element of their memory on.
constexpr testing::Layout kApart{.padding = 1, .shift = 1};

TEST_P(BackendTest, EveryKindOfOperand) {
  std::uint32_t seed = 1;
  for (const BlockFormat& format : formats()) {
    for (const int hadamard : {0, 16, 32, 64, 128}) {
      for (const int block : kBlockSizes) {
        if (!has_block(format, block)) continue;
        for (const Rounding rounding : {Rounding::kNearest, Rounding::kStochastic}) {
          for (const Axis axis : {Axis::kRow, Axis::kColumn}) {
            const DType dtype = testing::kTypes[seed % 3];
            const Values values = std::array{Values::kUneven, Values::kHostile, Values::kTies}[seed / 3 % 3];
            const Matrix matrix = axis == Axis::kRow ? make_matrix(2, 1100, dtype, values, seed, kApart)
                                                     : make_matrix(270, 19, dtype, values, seed, kApart);
            expect_same(matrix.view(), task_of(format, block, axis, rounding, hadamard, seed));
            if (HasFatalFailure()) return;
            ++seed;
          }
        }
      }
    }
  }
}

TEST_P(BackendTest, RandomShapesOffsetsAndOutputs) {
  std::mt19937 random(2);
  for (int i = 0; i < 250; ++i) {
    const QuantizeTask task = random_task(random);
    const std::int64_t rows = static_cast<std::int64_t>(random() % 40);
    const std::int64_t columns = static_cast<std::int64_t>(random() % 400);
    const auto kind = static_cast<Values>(random() % 5);
    const Matrix matrix = make_matrix(rows, columns, random_dtype(random), kind, static_cast<std::uint64_t>(i),
                                      {.padding = static_cast<std::int64_t>(random() % 3), .shift = 1});
    expect_same(matrix.view(), task,
                {.codes = random() % 4 != 0,
                 .scales = random() % 4 != 0,
                 .values = random() % 2 == 0 ? DType::kF32 : DType::kBF16});
    if (HasFatalFailure()) return;
  }
}

TEST_P(BackendTest, SmallestShapes) {
  std::mt19937 random(3);
  for (const auto& [rows, columns] : {std::pair{0, 5}, {5, 0}, {1, 1}, {1, 16}, {16, 1}, {17, 3}, {3, 17}, {257, 2}}) {
    for (int i = 0; i < 8; ++i) {
      const Matrix matrix = make_matrix(rows, columns, random_dtype(random), Values::kUneven, 4, kApart);
      expect_same(matrix.view(), random_task(random));
      if (HasFatalFailure()) return;
    }
  }
}

TEST_P(BackendTest, HostileValuesInEveryInputType) {
  std::mt19937 random(4);
  for (int i = 0; i < 90; ++i) {
    const DType dtype = testing::kTypes[static_cast<std::size_t>(i) % 3];
    for (const Values kind : {Values::kHostile, Values::kPatches}) {
      const Matrix matrix = make_matrix(40, 300, dtype, kind, static_cast<std::uint64_t>(i), {.shift = 1});
      expect_same(matrix.view(), random_task(random), {.values = DType::kBF16});
    }
    if (HasFatalFailure()) return;
  }
}

// Blocks whose largest value is near the ends of the range: where the kernels take another way than in the middle.
TEST_P(BackendTest, EveryMagnitudeOfABlock) {
  std::mt19937 random(5);
  std::normal_distribution<float> normal;
  for (const BlockFormat& format : formats()) {
    for (const Rounding rounding : {Rounding::kNearest, Rounding::kStochastic}) {
      for (const int hadamard : {0, 16, 64}) {
        std::vector<float> values;
        for (int exponent = -149; exponent < 128; ++exponent) {
          for (int i = 0; i < 64; ++i) values.push_back(std::ldexp(normal(random) / 3, exponent));
        }
        const auto size = static_cast<std::int64_t>(values.size());
        expect_same({values.data(), DType::kF32, 1, size, size}, task_of(format, 0, Axis::kRow, rounding, hadamard, 9));
        if (HasFatalFailure()) return;
      }
    }
  }
}

// Blocks of every size beside one that sets the second-level scale: E4M3 scales and windows of powers of two at their
// ends and beyond.
TEST_P(BackendTest, EveryMagnitudeBelowASecondLevelScale) {
  std::mt19937 random(15);
  std::normal_distribution<float> normal;
  for (const BlockFormat& format : formats()) {
    if (!format.has_outer_scale()) continue;
    for (const Rounding rounding : {Rounding::kNearest, Rounding::kStochastic}) {
      for (const int largest : {-140, -115, -60, 0, 60, 127}) {
        std::vector<float> values;
        for (int exponent = largest; exponent > std::max(largest - 40, -150); --exponent) {
          for (int i = 0; i < 128; ++i) values.push_back(std::ldexp(normal(random) / 3, exponent));
          for (int i = 0; i < 16; ++i) values.push_back(std::ldexp(static_cast<float>(i % 9), exponent - 3));
        }
        const auto size = static_cast<std::int64_t>(values.size());
        QuantizeTask task = task_of(format, 16, Axis::kRow, rounding, largest == 0 ? 16 : 0, 9);
        expect_same({values.data(), DType::kF32, 1, size, size}, task);
        const OuterShape outer = outer_shape(quantized_shape(1, size, task.spec, Axis::kRow), task.spec.outer_each());
        const std::vector<float> amax(static_cast<std::size_t>(outer.columns), 0.0F);  // smaller than they are
        task.outer_amax = amax.data();
        expect_same({values.data(), DType::kF32, 1, size, size}, task);
        if (HasFatalFailure()) return;
      }
    }
  }
}

// E4M3 scales around every boundary between two of them.
TEST_P(BackendTest, EveryE4m3Boundary) {
  std::vector<float> values;
  for (unsigned code = 0; code < 126; ++code) {
    const float low = e4m3_to_float(static_cast<std::uint8_t>(code));
    const float high = e4m3_to_float(static_cast<std::uint8_t>(code + 1));
    for (const float scale : {low, (low + high) / 2, std::nextafter((low + high) / 2, 0.0F),
                              std::nextafter((low + high) / 2, 1000.0F), high}) {
      for (int i = 0; i < 16; ++i) values.push_back(scale * 6 * static_cast<float>(i - 7) / 8);
    }
  }
  const auto size = static_cast<std::int64_t>(values.size());
  for (const char* name : {"nvfp4", "nvint4"}) {
    for (const float amax : {2688.0F, 3136.0F, 1.0F, 7.7F}) {
      QuantizeTask task = task_of(find_format(name), 16, Axis::kRow, Rounding::kNearest, 0, 0);
      task.outer_amax = &amax;
      expect_same({values.data(), DType::kF32, 1, size, size}, task);
      if (HasFatalFailure()) return;
    }
  }
}

// Values whose products with the reciprocal of the scale are one bit beside the middle of two levels of hif4, where a
// rounded product would be in the middle.
TEST_P(BackendTest, EveryMiddleOfHif4) {
  std::mt19937 random(18);
  std::vector<float> values;
  for (int block = 0; block < 200; ++block) {
    const float amax = 4 + static_cast<float>(random() % 4096) / 1024;
    const float sf = bf16_to_float(float_to_bf16(amax * bf16_to_float(float_to_bf16(1.0F / 7))));
    const int exponent = std::ilogb(sf) - 2;
    const float scale = std::ldexp(std::nearbyint(std::ldexp(sf, -exponent)), exponent);
    const double r = static_cast<double>(bf16_to_float(float_to_bf16(1 / scale)));
    values.push_back(amax);
    for (int i = 1; i < 64; ++i) {
      // Parts with and without exponents of their own.
      const double middle = (static_cast<double>(random() % 7) + 0.5) / 4 / r * (i < 24 ? 4 : i < 40 ? 2 : 1);
      const auto nearest = static_cast<float>(middle);
      const float beside = std::nextafter(nearest, random() % 2 == 0 ? 100.0F : 0.0F);
      values.push_back((random() % 3 == 0 ? nearest : beside) * (random() % 2 == 0 ? 1.0F : -1.0F));
    }
  }
  const auto size = static_cast<std::int64_t>(values.size());
  expect_same({values.data(), DType::kF32, 1, size, size},
              task_of(find_format("hif4"), 0, Axis::kRow, Rounding::kNearest, 0, 0));
}

TEST_P(BackendTest, OuterMagnitudesOfAnyRange) {
  std::mt19937 random(16);
  for (int i = 0; i < 60; ++i) {
    const Matrix matrix =
        make_matrix(150, 300, random_dtype(random), static_cast<Values>(i % 5), static_cast<std::uint64_t>(i), kApart);
    QuantizeTask task = random_task(random);
    OperandSpec& spec = task.spec;
    spec.format = &find_format(i % 4 == 0 ? "nvfp4" : "int4_p2");
    spec.options.tau = 0;
    spec.outer.each = i % 4 == 0 ? OuterScale::kTensor : kOuterScales[random() % 4];
    const OuterShape shape = outer_shape(quantized_shape(150, 300, spec, task.place.axis), spec.outer_each());
    std::vector<float> got(static_cast<std::size_t>(shape.rows * shape.columns), 0.0F);
    std::vector<float> want(got.size(), 0.0F);
    scalar().raise_outer_amax(matrix.view(), spec, task.place, {0, 150}, want.data());
    backend().raise_outer_amax(matrix.view(), spec, task.place, {128, 150}, got.data());
    backend().raise_outer_amax(matrix.view(), spec, task.place, {0, 128}, got.data());
    ASSERT_EQ(first_difference("amax", got, want, shape.rows), "") << describe(matrix.view(), task);
  }
}

TEST_P(BackendTest, OperandsOfAnFp8Product) {
  const Matrix matrix = make_matrix(20, 300, DType::kBF16, Values::kUneven, 17);
  QuantizeTask task = task_of(find_format("int4_p2"), 16, Axis::kColumn, Rounding::kNearest, 0, 0);
  const float amax = 2;  // less than it is, so that blocks are clipped
  task.outer_amax = &amax;
  const Wanted wanted{.e4m3 = true, .window = true};
  const Results got = quantize(backend(), matrix.view(), task, wanted);
  EXPECT_EQ(first_difference(got, quantize(scalar(), matrix.view(), task, wanted)), "");
  EXPECT_GT(got.clipped(), 0U);
  EXPECT_EQ(got.amax(), scalar().tensor_amax(matrix.view(), task.spec, task.place));
}

TEST_P(BackendTest, AllBf16AndF16Bits) {
  std::vector<std::uint16_t> bits(65536);
  for (std::size_t i = 0; i < bits.size(); ++i) bits[i] = static_cast<std::uint16_t>(i);
  for (const DType dtype : {DType::kBF16, DType::kF16}) {
    for (const std::int64_t columns : {65536, 256}) {
      const ConstMatrix in{bits.data(), dtype, 65536 / columns, columns, columns};
      for (const Axis axis : {Axis::kRow, Axis::kColumn}) {
        expect_same(in, task_of(find_format("e1m2"), 16, axis, Rounding::kNearest, 0, 0));
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST_P(BackendTest, RowsAndColumnsAtOnceAreEachAlone) {
  std::mt19937 random(6);
  for (int i = 0; i < 4; ++i) {
    const Matrix matrix =
        make_matrix(150 + i * 47, 2300 - i * 297, random_dtype(random), Values::kUneven, 8, {.padding = 100});
    std::vector<Results> got;
    for (int t = 0; t < 3; ++t) {
      QuantizeTask task = random_task(random);
      if (t < 2) task.place.axis = t == 0 ? Axis::kRow : Axis::kColumn;
      got.emplace_back(matrix.view(), task);
    }
    std::vector<QuantizeTask> tasks;
    tasks.reserve(got.size());
    for (Results& results : got) tasks.push_back(results.writing());
    backend().quantize(matrix.view(), tasks);
    for (const Results& results : got) {
      const Results alone = quantize(backend(), matrix.view(), results.task);
      ASSERT_EQ(first_difference(results, alone), "") << describe(matrix.view(), results.task);
    }
  }
}

TEST_P(BackendTest, ShardsGiveTheBitsOfTheWhole) {
  const Matrix whole = make_matrix(64, 640, DType::kBF16, Values::kUneven, 10);
  for (const Axis axis : testing::kAxes) {
    QuantizeTask task = task_of(find_format("e1m2"), 16, axis, Rounding::kStochastic, 16, 3);
    task.place = {.axis = axis, .seed = 11, .step = 12, .stream = 13, .row_offset = 100, .column_offset = 0xFFFFFF00u};
    const Results all = quantize(backend(), whole.view(), task);  // the columns pass 2^32

    const std::int64_t row = 32;
    const std::int64_t column = 160;
    const std::int64_t first_row = axis == Axis::kRow ? row : column;
    const std::int64_t first_column = axis == Axis::kRow ? column : row;
    task.place.row_offset += static_cast<std::uint32_t>(first_row);
    task.place.column_offset += static_cast<std::uint32_t>(first_column);
    const Results part = quantize(backend(), whole.view(row, column, 64 - row, 640 - column), task);
    for (std::int64_t r = 0; r < part.shape.rows; ++r) {
      for (std::int64_t c = 0; c < part.shape.columns; ++c) {
        ASSERT_EQ(part.value(r, c), all.value(r + first_row, c + first_column))
            << "element [" << r << ", " << c << "] of the shard";
      }
    }
  }
}

TEST_P(BackendTest, Dequantize) {
  std::mt19937 random(7);
  const auto bits = [](std::mt19937& from) { return std::uint64_t{from()} << 32 | from(); };
  for (const BlockFormat& format : formats()) {
    for (const int block : kBlockSizes) {
      if (!has_block(format, block)) continue;
      const std::int64_t rows = 3;
      const std::int64_t columns = std::int64_t{block} * 7;
      std::vector<std::uint8_t> codes(static_cast<std::size_t>(rows * columns / 2));
      for (auto& byte : codes) byte = static_cast<std::uint8_t>(random());
      std::vector<float> scales(static_cast<std::size_t>(rows * columns / block));
      for (float& scale : scales) {
        scale = random() % 4 == 0 ? testing::hostile_value(random()) : testing::normal_value(bits(random));
      }
      const bool segments = format.own_outer != OuterScale::kTensor;
      const OuterShape outer =
          outer_shape({rows, columns, columns, columns / block}, segments ? OuterScale::k1x128 : OuterScale::kTensor);
      std::vector<float> outer_scales(static_cast<std::size_t>(outer.rows * outer.columns), 1.0F);
      for (std::size_t i = 0; format.has_outer_scale() && i < outer_scales.size(); ++i) {
        outer_scales[i] = 0.37F * static_cast<float>(i + 1);
      }
      std::vector<std::uint8_t> selectors(static_cast<std::size_t>(rows * columns / 4));
      for (auto& selector : selectors) selector = static_cast<std::uint8_t>(random() % (format.block == 16 ? 2 : 3));
      ConstQuantized in{.format = &format, .block = block, .rows = rows, .columns = columns};
      in.codes = codes.data();
      in.scales = scales.data();
      in.selectors = selectors.data();
      in.outer = segments ? OuterScale::k1x128 : OuterScale::kTensor;
      in.outer_scales = outer_scales.data();
      std::vector<float> got(static_cast<std::size_t>(rows * columns));
      std::vector<float> want(got.size());
      backend().dequantize(in, got.data(), DType::kF32);
      scalar().dequantize(in, want.data(), DType::kF32);
      ASSERT_EQ(first_difference("F32", got, want, rows), "") << format.name << " block " << block;
      std::vector<std::uint16_t> got16(got.size());
      std::vector<std::uint16_t> want16(got.size());
      backend().dequantize(in, got16.data(), DType::kBF16);
      scalar().dequantize(in, want16.data(), DType::kBF16);
      ASSERT_EQ(first_difference("BF16", got16, want16, rows), "") << format.name << " block " << block;
    }
  }
}

TEST_P(BackendTest, IsTheOneThatWasAskedFor) {
  EXPECT_EQ(backend().name(), GetParam());
  // The kernels that the backend runs are those of its own instruction set: each table has its own functions.
  const auto tables = cpu::all_kernels();
  for (std::size_t i = 0; i < tables.size(); ++i) {
    for (std::size_t j = 0; j < i; ++j) {
      EXPECT_NE(tables[i].find_span, tables[j].find_span);
      EXPECT_NE(tables[i].dequantize, tables[j].dequantize);
      EXPECT_NE(tables[i].transpose, tables[j].transpose);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, BackendTest, ::testing::ValuesIn(runnable_names()),
                         [](const auto& instance) { return instance.param; });

TEST(Backends, WidestFirstAndPortableLast) {
  const auto tables = cpu::all_kernels();
  ASSERT_FALSE(tables.empty());
  for (std::size_t i = 1; i < tables.size(); ++i) EXPECT_LE(tables[i].lanes, tables[i - 1].lanes);
  EXPECT_EQ(cpu::backends().back()->name(), "emu128");
  EXPECT_TRUE(cpu::backends().back()->available());
}

TEST(Backends, UnknownNameListsTheKnownOnes) {
  try {
    find_backend("itanium-9000");
    FAIL();
  } catch (const InputError& error) {
    EXPECT_NE(std::string(error.what()).find("emu128"), std::string::npos) << error.what();
  }
}

TEST(Backends, EveryFormatHasKernels) {
  for (const BlockFormat& format : formats()) EXPECT_TRUE(cpu::has_kernels(format)) << format.name;
}

TEST(Lattice, EveryFormatHasOne) {
  for (const BlockFormat& format : formats()) {
    const auto lattice = cpu::find_lattice(format.element);
    ASSERT_TRUE(lattice) << format.name;
    EXPECT_EQ(lattice->stretches == 1, format.element.uniform()) << format.name;
  }
}

TEST(Lattice, RefusesLevelsThatItCannotSpell) {
  ElementFormat odd{"odd", 4, {0, 1, 2.5F, 3}, CodeKind::kSignMagnitude};
  EXPECT_FALSE(cpu::find_lattice(odd));
  odd.levels = {0, 3, 6, 9};
  EXPECT_FALSE(cpu::find_lattice(odd));
}

}  // namespace
}  // namespace ufp4
