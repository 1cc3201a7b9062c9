// Every SIMD backend of this machine against the scalar reference, bit for bit.
#include <gtest/gtest.h>

#include <cmath>

#include "cpu/backends.h"
#include "cpu/job.h"
#include "operand_cases.h"
#include "ufp4/error.h"

namespace ufp4 {
namespace {

using testing::describe;
using testing::first_difference;
using testing::make_matrix;
using testing::make_result;
using testing::make_task;
using testing::OwnedMatrix;
using testing::OwnedResult;
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

  void expect_same(const ConstMatrix& in, const QuantizeSpec& spec, const Wanted& wanted = {}) const {
    OwnedResult got = make_result(in, spec, wanted);
    OwnedResult want = make_result(in, spec, wanted);
    const QuantizeTask got_task = make_task(spec, got);
    const QuantizeTask want_task = make_task(spec, want);
    backend().quantize(in, {&got_task, 1});
    scalar().quantize(in, {&want_task, 1});
    ASSERT_EQ(first_difference(got, want), "") << describe(in, spec);
  }
};

// Formats whose blocks choose something have blocks of their own size only.
bool has_block(const BlockFormat& format, int block) { return format.selector_block == 0 || format.block == block; }

QuantizeSpec random_spec(std::mt19937& random) {
  QuantizeSpec spec;
  spec.format = &formats()[random() % formats().size()];
  if (spec.format->outer_is_free()) spec.outer = kOuterScales[random() % kOuterScales.size()];
  if (spec.format->outer_is_free()) spec.tau = std::array{0.0F, 1.0F, 1.125F}[random() % 3];
  const int block = kBlockSizes[random() % 4];
  if (has_block(*spec.format, block)) spec.block = block;
  spec.axis = random() % 2 == 0 ? Axis::kRow : Axis::kColumn;
  spec.rounding = random() % 2 == 0 ? Rounding::kNearest : Rounding::kStochastic;
  spec.hadamard = make_hadamard(std::array{0, 16, 32, 64, 128}[random() % 5], random());
  spec.random = {random() * 0x100000001ull, static_cast<std::uint32_t>(random()), static_cast<std::uint32_t>(random()),
                 static_cast<std::uint32_t>(random() % 1000), static_cast<std::uint32_t>(random() % 1000)};
  return spec;
}

DType random_dtype(std::mt19937& random) { return std::array{DType::kF32, DType::kBF16, DType::kF16}[random() % 3]; }

TEST_P(BackendTest, EveryKindOfOperand) {
  std::uint32_t seed = 1;
  for (const BlockFormat& format : formats()) {
    for (const int hadamard : {0, 16, 32, 64, 128}) {
      for (const int block : kBlockSizes) {
        if (!has_block(format, block)) continue;
        for (const Rounding rounding : {Rounding::kNearest, Rounding::kStochastic}) {
          for (const Axis axis : {Axis::kRow, Axis::kColumn}) {
            const DType dtype = std::array{DType::kF32, DType::kBF16, DType::kF16}[seed % 3];
            const Values values = std::array{Values::kNormal, Values::kHostile, Values::kTies}[seed / 3 % 3];
            const OwnedMatrix matrix = axis == Axis::kRow ? make_matrix(2, 1100, 1101, dtype, values, seed)
                                                          : make_matrix(270, 19, 20, dtype, values, seed);
            QuantizeSpec spec{&format, block, axis, rounding, make_hadamard(hadamard, seed), {seed, 7, 3, 5, 16}};
            expect_same(matrix.view, spec);
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
    const QuantizeSpec spec = random_spec(random);
    const std::int64_t rows = static_cast<std::int64_t>(random() % 40);
    const std::int64_t columns = static_cast<std::int64_t>(random() % 400);
    const auto kind = static_cast<Values>(random() % 3);
    const OwnedMatrix matrix = make_matrix(rows, columns, columns + static_cast<std::int64_t>(random() % 3),
                                           random_dtype(random), kind, static_cast<std::uint32_t>(i));
    const bool f32 = random() % 2 == 0;
    expect_same(matrix.view, spec, {random() % 4 != 0, random() % 4 != 0, f32, !f32});
    if (HasFatalFailure()) return;
  }
}

TEST_P(BackendTest, SmallestShapes) {
  std::mt19937 random(3);
  for (const auto& [rows, columns] : {std::pair{0, 5}, {5, 0}, {1, 1}, {1, 16}, {16, 1}, {17, 3}, {3, 17}, {257, 2}}) {
    for (int i = 0; i < 8; ++i) {
      const OwnedMatrix matrix = make_matrix(rows, columns, columns + 1, random_dtype(random), Values::kNormal, 4);
      expect_same(matrix.view, random_spec(random));
      if (HasFatalFailure()) return;
    }
  }
}

TEST_P(BackendTest, HostileValuesInEveryInputType) {
  std::mt19937 random(4);
  for (int i = 0; i < 90; ++i) {
    const DType dtype = std::array{DType::kF32, DType::kBF16, DType::kF16}[static_cast<std::size_t>(i) % 3];
    const OwnedMatrix matrix = make_matrix(40, 300, 300, dtype, Values::kHostile, static_cast<std::uint32_t>(i));
    expect_same(matrix.view, random_spec(random), {true, true, false, true});
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
        const QuantizeSpec spec{&format, 0, Axis::kRow, rounding, make_hadamard(hadamard, 9), {1, 2, 3, 4, 5}};
        expect_same({values.data(), DType::kF32, 1, size, size}, spec);
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
        QuantizeSpec spec{&format, 16, Axis::kRow, rounding, make_hadamard(largest == 0 ? 16 : 0, 9), {1, 2, 3, 4, 5}};
        expect_same({values.data(), DType::kF32, 1, size, size}, spec);
        spec.tensor_amax = 0;  // smaller than it is
        expect_same({values.data(), DType::kF32, 1, size, size}, spec);
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
      QuantizeSpec spec{&find_format(name), 16, Axis::kRow, Rounding::kNearest, {}, {}};
      spec.tensor_amax = amax;
      expect_same({values.data(), DType::kF32, 1, size, size}, spec);
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
              {&find_format("hif4"), 0, Axis::kRow, Rounding::kNearest, {}, {}});
}

TEST_P(BackendTest, OuterMagnitudesOfAnyRange) {
  std::mt19937 random(16);
  for (int i = 0; i < 60; ++i) {
    const OwnedMatrix matrix =
        make_matrix(150, 300, 301, random_dtype(random), static_cast<Values>(i % 3), static_cast<std::uint32_t>(i));
    QuantizeSpec spec = random_spec(random);
    spec.format = &find_format(i % 4 == 0 ? "nvfp4" : "int4_p2");
    spec.tau = 0;
    spec.outer = i % 4 == 0 ? OuterScale::kTensor : kOuterScales[random() % 4];
    const OuterShape shape = outer_shape(quantized_shape(150, 300, spec), spec.outer);
    std::vector<float> got(static_cast<std::size_t>(shape.rows * shape.columns), 0.0F);
    std::vector<float> want(got.size(), 0.0F);
    scalar().raise_outer_amax(matrix.view, spec, {0, 150}, want.data());
    backend().raise_outer_amax(matrix.view, spec, {128, 150}, got.data());
    backend().raise_outer_amax(matrix.view, spec, {0, 128}, got.data());
    ASSERT_EQ(first_difference("amax", got, want, shape.rows), "") << describe(matrix.view, spec);
  }
}

TEST_P(BackendTest, OperandsOfAnFp8Product) {
  const OwnedMatrix matrix = make_matrix(20, 300, 300, DType::kBF16, Values::kNormal, 17);
  QuantizeSpec spec{&find_format("int4_p2"), 16, Axis::kColumn, Rounding::kNearest, {}, {}};
  spec.tensor_amax = 2;  // less than it is, so that blocks are clipped
  const auto run = [&](const Backend& which) {
    std::vector<std::uint8_t> e4m3(std::size_t{300} * 32);
    float amax = 0;
    std::uint32_t clipped = 0;
    QuantizeTask task{spec, {}};
    task.out.e4m3 = e4m3.data();
    task.out.amax = &amax;
    task.out.clipped = &clipped;
    which.quantize(matrix.view, {&task, 1});
    return std::tuple{e4m3, amax, clipped};
  };
  EXPECT_EQ(run(backend()), run(scalar()));
  EXPECT_GT(std::get<2>(run(backend())), 0U);
}

TEST_P(BackendTest, AllBf16AndF16Bits) {
  std::vector<std::uint16_t> bits(65536);
  for (std::size_t i = 0; i < bits.size(); ++i) bits[i] = static_cast<std::uint16_t>(i);
  for (const DType dtype : {DType::kBF16, DType::kF16}) {
    for (const std::int64_t columns : {65536, 256}) {
      const ConstMatrix in{bits.data(), dtype, 65536 / columns, columns, columns};
      for (const Axis axis : {Axis::kRow, Axis::kColumn}) {
        expect_same(in, {&find_format("e1m2"), 16, axis, Rounding::kNearest, {}, {}});
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST_P(BackendTest, RowsAndColumnsAtOnceAreEachAlone) {
  std::mt19937 random(6);
  for (int i = 0; i < 4; ++i) {
    const OwnedMatrix matrix =
        make_matrix(150 + i * 47, 2300 - i * 297, 2400, random_dtype(random), Values::kNormal, 8);
    std::vector<OwnedResult> got;
    std::vector<OwnedResult> want;
    std::vector<QuantizeSpec> specs;
    for (int t = 0; t < 3; ++t) {
      specs.push_back(random_spec(random));
      if (t < 2) specs.back().axis = t == 0 ? Axis::kRow : Axis::kColumn;
      got.push_back(make_result(matrix.view, specs.back(), {true, true, true, false}));
      want.push_back(got.back());
    }
    std::vector<QuantizeTask> tasks;
    for (std::size_t t = 0; t < specs.size(); ++t) tasks.push_back(make_task(specs[t], got[t]));
    backend().quantize(matrix.view, tasks);
    for (std::size_t t = 0; t < specs.size(); ++t) {
      const QuantizeTask task = make_task(specs[t], want[t]);
      backend().quantize(matrix.view, {&task, 1});
      ASSERT_EQ(first_difference(got[t], want[t]), "") << describe(matrix.view, specs[t]);
    }
  }
}

TEST_P(BackendTest, ShardsGiveTheBitsOfTheWhole) {
  const OwnedMatrix whole = make_matrix(64, 640, 640, DType::kBF16, Values::kNormal, 10);
  for (const Axis axis : {Axis::kRow, Axis::kColumn}) {
    QuantizeSpec spec{&find_format("e1m2"),          16, axis, Rounding::kStochastic, make_hadamard(16, 3),
                      {11, 12, 13, 100, 0xFFFFFF00u}};  // the columns pass 2^32
    OwnedResult all = make_result(whole.view, spec, {});
    const QuantizeTask task = make_task(spec, all);
    backend().quantize(whole.view, {&task, 1});

    const std::int64_t row = 32;
    const std::int64_t column = 160;
    ConstMatrix shard = whole.view;
    shard.data = static_cast<const std::uint8_t*>(shard.data) + (row * shard.row_stride + column) * 2;
    shard.rows -= row;
    shard.columns -= column;
    spec.random.row_offset += static_cast<std::uint32_t>(axis == Axis::kRow ? row : column);
    spec.random.column_offset += static_cast<std::uint32_t>(axis == Axis::kRow ? column : row);
    OwnedResult part = make_result(shard, spec, {});
    const QuantizeTask part_task = make_task(spec, part);
    backend().quantize(shard, {&part_task, 1});
    const std::int64_t first_row = axis == Axis::kRow ? row : column;
    const std::int64_t first_column = axis == Axis::kRow ? column : row;
    for (std::int64_t r = 0; r < part.shape.rows; ++r) {
      for (std::int64_t c = 0; c < part.shape.columns; ++c) {
        const auto at = static_cast<std::size_t>(r * part.shape.columns + c);
        const auto from = static_cast<std::size_t>((r + first_row) * all.shape.columns + c + first_column);
        ASSERT_EQ(part.f32[at], all.f32[from]) << "element [" << r << ", " << c << "] of the shard";
      }
    }
  }
}

TEST_P(BackendTest, Dequantize) {
  std::mt19937 random(7);
  for (const BlockFormat& format : formats()) {
    for (const int block : kBlockSizes) {
      if (!has_block(format, block)) continue;
      const std::int64_t rows = 3;
      const std::int64_t columns = std::int64_t{block} * 7;
      std::vector<std::uint8_t> codes(static_cast<std::size_t>(rows * columns / 2));
      for (auto& byte : codes) byte = static_cast<std::uint8_t>(random());
      std::vector<float> scales(static_cast<std::size_t>(rows * columns / block));
      for (float& scale : scales) {
        scale = random() % 4 == 0 ? testing::hostile_value(random) : testing::draw_value(Values::kNormal, random);
      }
      const float global_scale = format.has_outer_scale() ? 0.37F : 1.0F;
      std::vector<std::uint8_t> selectors(static_cast<std::size_t>(rows * columns / 4));
      for (auto& selector : selectors) selector = static_cast<std::uint8_t>(random() % (format.block == 16 ? 2 : 3));
      ConstQuantized in{&format, block, rows, columns, codes.data(), scales.data(), global_scale};
      in.selectors = selectors.data();
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
