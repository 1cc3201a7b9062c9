// The bits of the GPU against those of the fastest CPU backend (which tests/backend holds to the scalar reference).
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <string>
#include <vector>

#include "cuda/device_case.h"
#include "cuda/quantize.h"
#include "ufp4/error.h"

namespace ufp4 {
namespace {

using testing::HostMatrix;
using testing::Wanted;

class CudaQuantize : public ::testing::Test {
 protected:
  void SetUp() override {
    const cuda::DeviceStatus status = cuda::device_status();
    if (!status.usable) GTEST_SKIP() << status.sentence;
  }
};

constexpr std::array kTypes{DType::kF32, DType::kBF16, DType::kF16};
constexpr std::array kRoundings{Rounding::kNearest, Rounding::kStochastic};
constexpr std::array kAxes{Axis::kRow, Axis::kColumn};

// Grids that no table of the library has: they take the path of any grid.
const BlockFormat kThirds{"thirds",
                          {"thirds", 8, {0, 0.3F, 0.6F, 1, 1.3F, 2.2F, 3, 5}, CodeKind::kSignMagnitude},
                          16,
                          ScaleEncoding::kFp32,
                          ""};
const BlockFormat kThree{"three", {"three", 3, {0, 1, 3}, CodeKind::kTwosComplement}, 16, ScaleEncoding::kFp32, ""};
const BlockFormat kCoarse{
    "coarse", {"coarse", 4, {0, 2, 4, 6}, CodeKind::kSignMagnitude}, 16, ScaleEncoding::kFp32, ""};

std::vector<const BlockFormat*> all_formats() {
  std::vector<const BlockFormat*> list{&kThirds, &kThree, &kCoarse};
  for (const BlockFormat& format : formats()) {
    if (format.rule == ScaleRule::kAmax) list.push_back(&format);
  }
  return list;
}

QuantizeSpec make_spec(const BlockFormat& format, Axis axis, Rounding rounding, int hadamard, int block) {
  return {&format, block, axis, rounding, make_hadamard(hadamard, 7), {0x123456789ABCDEFu, 5, 11, 0, 0}};
}

// What calls ask for of every spec, or of the first and the others.
constexpr std::array<std::array<Wanted, 2>, 6> kChoices{{{Wanted::kAll, Wanted::kAll},
                                                         {Wanted::kPacked, Wanted::kPacked},
                                                         {Wanted::kValues, Wanted::kValues},
                                                         {Wanted::kValues, Wanted::kPacked},
                                                         {Wanted::kE4m3, Wanted::kE4m3},
                                                         {Wanted::kE4m3, Wanted::kPacked}}};

void expect_equal(const HostMatrix& in, const std::vector<QuantizeSpec>& specs, DType dequantized = DType::kBF16) {
  std::vector<testing::Results> cpu;
  cpu.reserve(specs.size());
  for (const QuantizeSpec& spec : specs) cpu.push_back(testing::quantize_on_cpu(in, spec, dequantized));
  for (const auto& [first, others] : kChoices) {
    const bool e4m3 = first == Wanted::kE4m3;
    if (e4m3 && specs[0].format->rule != ScaleRule::kPow2Window) continue;
    std::vector<Wanted> wanted(specs.size(), others);
    wanted[0] = first;
    const std::vector<testing::Results> gpu = testing::quantize_on_gpu(in, specs, dequantized, wanted);
    for (std::size_t i = 0; i < specs.size(); ++i) {
      EXPECT_EQ("", difference(gpu[i], cpu[i], in, specs[i]))
          << "wanted " << static_cast<int>(first) << " and " << static_cast<int>(others);
    }
  }
}

std::vector<std::string> all_format_names() {
  std::vector<std::string> names;
  for (const BlockFormat* format : all_formats()) names.emplace_back(format->name);
  return names;
}

// A case for each format, so that sanitizers can take one at a time.
class CudaQuantizeOf : public CudaQuantize, public ::testing::WithParamInterface<std::string> {};

TEST_P(CudaQuantizeOf, EveryVariantOnShapesThatFitNothing) {
  struct Shape {
    std::int64_t rows, columns, padding, shift;
  };
  constexpr std::array<Shape, 7> kShapes{{{1, 1, 0, 0},
                                          {37, 53, 3, 1},
                                          {130, 72, 8, 8},
                                          {16, 144, 0, 0},
                                          {3, 300, 4, 0},
                                          {257, 8, 0, 0},
                                          {64, 65, 63, 0}}};
  const std::vector<const BlockFormat*> list = all_formats();
  const auto format = std::find_if(list.begin(), list.end(), [](const auto* f) { return f->name == GetParam(); });
  ASSERT_NE(format, list.end());
  std::uint64_t seed = 1000 * static_cast<std::uint64_t>(format - list.begin());
  for (const Rounding rounding : kRoundings) {
    for (const int hadamard : {0, 16, 32, 64, 128}) {
      for (const int block : kBlockSizes) {
        const Shape& s = kShapes[++seed % kShapes.size()];
        const DType type = kTypes[seed / kShapes.size() % kTypes.size()];
        const HostMatrix in = testing::hostile_matrix(type, s.rows, s.columns, s.padding, s.shift, seed);
        for (const Axis axis : kAxes) {
          expect_equal(in, {make_spec(**format, axis, rounding, hadamard, block)},
                       seed % 2 == 0 ? DType::kBF16 : DType::kF32);
        }
        if (HasFailure()) return;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, CudaQuantizeOf, ::testing::ValuesIn(all_format_names()),
                         [](const auto& name) { return name.param; });

TEST_F(CudaQuantize, BothAxesFromOneRead) {
  for (const DType type : kTypes) {
    for (const Rounding rounding : kRoundings) {
      for (const char* name : {"e1m2", "int4_full", "e2m1"}) {
        for (const int hadamard : {0, 16, 64}) {
          const HostMatrix in = testing::hostile_matrix(type, 270, 200, 8, 0, 3);
          QuantizeSpec row = make_spec(find_format(name), Axis::kRow, rounding, hadamard, 16);
          QuantizeSpec column = make_spec(find_format("e1m2"), Axis::kColumn, rounding, 16, 32);
          row.random.stream = 77;
          expect_equal(in, {row, column});
          expect_equal(in, {column, row, make_spec(find_format("int4"), Axis::kColumn, rounding, 0, 16)}, DType::kF32);
        }
      }
    }
  }
}

// Tiles are worked on in pairs: pairs whose second tile lies outside, several blocks a pair, and several pairs a block.
TEST_F(CudaQuantize, AnyNumberOfTiles) {
  struct Shape {
    std::int64_t rows, columns;
    std::uint32_t column_offset;
  };
  for (const Shape& s :
       {Shape{100, 40, 24}, Shape{129, 193, 5}, Shape{700, 900, 24}, Shape{1300, 2100, 8}, Shape{3400, 3100, 24}}) {
    for (const DType type : {DType::kBF16, DType::kF32}) {
      const HostMatrix in = testing::hostile_matrix(type, s.rows, s.columns, 4, 0, 9);
      for (const Rounding rounding : kRoundings) {
        QuantizeSpec row = make_spec(find_format("e1m2"), Axis::kRow, rounding, 16, 16);
        row.random.row_offset = 40;
        row.random.column_offset = s.column_offset;
        QuantizeSpec column = row;
        column.axis = Axis::kColumn;
        expect_equal(in, {row, column});
        if (HasFailure()) return;
      }
    }
  }
}

// int4_p2: outer scales that fit, that clip, and at the ends of the range; and its packed form back to values.
TEST_F(CudaQuantize, PowersOfTwoInAWindow) {
  std::uint64_t seed = 100;
  for (const Rounding rounding : kRoundings) {
    for (const int hadamard : {0, 16, 64}) {
      for (const float amax : {14.0F, 3.5F, 0.04F, 1e6F, 0.0F, 0x1p-112F, 3e38F, 1e-30F}) {
        const DType type = kTypes[++seed % kTypes.size()];
        const HostMatrix in = testing::hostile_matrix(type, 150, 200, 8, 0, seed);
        QuantizeSpec row = make_spec(find_format("int4_p2"), Axis::kRow, rounding, hadamard, seed % 5 == 0 ? 32 : 16);
        row.tensor_amax = amax;
        row.tau = seed % 3 == 0 ? 1.0F : seed % 3 == 1 ? 1.125F : 0.0F;
        row.random.row_offset = static_cast<std::uint32_t>(seed);
        QuantizeSpec column = row;
        column.axis = Axis::kColumn;
        column.hadamard = make_hadamard(16, 3);
        column.tensor_amax = 0.5F * amax;
        expect_equal(in, {row, column}, seed % 2 == 0 ? DType::kBF16 : DType::kF32);
        expect_equal(in, {column});
        expect_equal(in, {row});
        if (HasFailure()) FAIL() << "tensor amax " << amax;
      }
    }
  }
}

std::vector<std::uint8_t> bytes_of(float value) {
  std::vector<std::uint8_t> bytes(4);
  std::memcpy(bytes.data(), &value, 4);
  return bytes;
}

TEST_F(CudaQuantize, PackedScalesUnpackAsScalesDo) {
  const HostMatrix in = testing::hostile_matrix(DType::kBF16, 64, 160, 0, 0, 5);
  QuantizeSpec spec = make_spec(find_format("int4_p2"), Axis::kRow, Rounding::kNearest, 16, 16);
  spec.tensor_amax = 6;
  const testing::Results cpu = testing::quantize_on_cpu(in, spec, DType::kBF16);
  const testing::DeviceBytes codes(cpu.codes);
  const testing::DeviceBytes packed_scales(cpu.packed_scales);
  const testing::DeviceBytes values(cpu.dequantized.size());
  const testing::DeviceBytes e4m3(cpu.e4m3.size());
  ConstQuantized packed{spec.format, 0, 64, 160, codes.as<std::uint8_t>()};
  packed.packed_scales = packed_scales.as<std::uint8_t>();
  const testing::DeviceBytes outer(bytes_of(cpu.global_scale));
  packed.outer_scales = outer.as<float>();
  cuda::dequantize(packed, values.data(), DType::kBF16, nullptr);
  cuda::dequantize_e4m3(packed, e4m3.as<std::uint8_t>(), nullptr);
  EXPECT_TRUE(values.fetch() == cpu.dequantized);
  EXPECT_TRUE(e4m3.fetch() == cpu.e4m3);
}

TEST_F(CudaQuantize, ShardsTakeTheRandomBitsOfTheWhole) {
  for (const Axis axis : kAxes) {
    for (const std::uint32_t offset : {0u, 8u, 1u, 2u, 5u, 7u, 0xFFFFFFF4u}) {
      const HostMatrix in = testing::hostile_matrix(DType::kBF16, 48, 80, 0, 0, offset);
      QuantizeSpec spec = make_spec(find_format("e1m2"), axis, Rounding::kStochastic, 16, 16);
      spec.random.column_offset = offset;
      spec.random.row_offset = 3 * offset;
      expect_equal(in, {spec});
    }
  }
}

TEST_F(CudaQuantize, EmptyMatricesNeedNoMemory) {
  const QuantizeTask nothing{make_spec(find_format("e1m2"), Axis::kRow, Rounding::kNearest, 16, 16), {}};
  QuantizeTask empty = nothing;
  empty.spec.axis = Axis::kColumn;
  EXPECT_NO_THROW(cuda::quantize({nullptr, DType::kF32, 0, 10, 10}, {&nothing, 1}, nullptr));
  EXPECT_NO_THROW(cuda::quantize({nullptr, DType::kF32, 10, 0, 10}, {&empty, 1}, nullptr));
}

TEST_F(CudaQuantize, ErrorsNameWhatIsWrong) {
  QuantizeTask task{make_spec(find_format("e1m2"), Axis::kRow, Rounding::kNearest, 16, 16), {}};
  const ConstMatrix null{nullptr, DType::kBF16, 4, 16, 16};
  EXPECT_THROW(cuda::quantize(null, {&task, 1}, nullptr), InputError);
  const ConstMatrix overlapping{&task, DType::kBF16, 4, 16, 8};
  EXPECT_THROW(cuda::quantize(overlapping, {&task, 1}, nullptr), InputError);
  alignas(16) std::array<std::uint8_t, 64> somewhere{};  // never read: the call is refused
  task.out.codes = somewhere.data() + 4;
  const ConstMatrix good{somewhere.data(), DType::kBF16, 4, 16, 16};
  EXPECT_THROW(cuda::quantize(good, {&task, 1}, nullptr), InputError);
  task.out.codes = somewhere.data();
  task.spec.block = 24;
  EXPECT_THROW(cuda::quantize(good, {&task, 1}, nullptr), InputError);
  task.spec = make_spec(find_format("nvfp4"), Axis::kRow, Rounding::kNearest, 0, 16);
  EXPECT_THROW(cuda::quantize(good, {&task, 1}, nullptr), InputError);
  task.spec = make_spec(find_format("int4_p2"), Axis::kRow, Rounding::kNearest, 0, 16);  // no amax
  EXPECT_THROW(cuda::quantize(good, {&task, 1}, nullptr), InputError);
  task.spec = make_spec(find_format("e1m2"), Axis::kRow, Rounding::kNearest, 0, 16);
  task.out = {};
  task.out.e4m3 = somewhere.data();  // not for this format
  EXPECT_THROW(cuda::quantize(good, {&task, 1}, nullptr), InputError);
  const ConstQuantized packed{&find_format("nvfp4"), 0, 1, 16, somewhere.data(), nullptr};
  EXPECT_THROW(cuda::dequantize(packed, somewhere.data(), DType::kBF16, nullptr), InputError);
}

// The whole contract at once: 10^8 elements of every variant that training uses, a format a case.
class CudaHundredMillion : public CudaQuantize, public ::testing::WithParamInterface<std::string> {
 protected:
  static constexpr std::int64_t kRows = 8192;
  static constexpr std::int64_t kColumns = 12288;
};

TEST_P(CudaHundredMillion, EveryRoundingTransformAndAxis) {
  static const HostMatrix in = testing::normal_matrix(DType::kBF16, kRows, kColumns, 42);
  static const HostMatrix turned = transposed(in);
  for (const Rounding rounding : kRoundings) {
    for (const int hadamard : {0, 16}) {
      QuantizeSpec row = make_spec(find_format(GetParam()), Axis::kRow, rounding, hadamard, 16);
      row.tensor_amax = 2.5F;  // of int4_p2: a few blocks are beyond its window
      QuantizeSpec column = row;
      column.axis = Axis::kColumn;
      const testing::Results row_on_cpu = quantize_on_cpu(in, row, {});
      const testing::Results column_on_cpu = quantize_on_cpu(turned, row, {});
      const Wanted rows = row.format->rule == ScaleRule::kPow2Window ? Wanted::kE4m3 : Wanted::kPacked;
      const Wanted columns = rounding == Rounding::kStochastic ? rows : Wanted::kPacked;
      EXPECT_EQ("", difference(quantize_on_gpu(in, {row}, {}, {rows})[0], row_on_cpu, in, row));
      const std::vector<testing::Results> both = quantize_on_gpu(in, {row, column}, {}, {rows, columns});
      EXPECT_EQ("", difference(both[0], row_on_cpu, in, row));
      EXPECT_EQ("", difference(both[1], column_on_cpu, in, column));
      EXPECT_EQ("", difference(quantize_on_gpu(in, {column}, {}, {columns})[0], column_on_cpu, in, column));
      if (row.format->rule == ScaleRule::kPow2Window) continue;
      // In BF16, as the emulated products take them: with the stash, both, and rows alone.
      const testing::Results row_values = quantize_on_cpu(in, row, DType::kBF16);
      const testing::Results column_values = quantize_on_cpu(turned, row, DType::kBF16);
      for (const Wanted stash : {Wanted::kPacked, Wanted::kValues}) {
        const auto made = quantize_on_gpu(in, {row, column}, DType::kBF16, {Wanted::kValues, stash});
        EXPECT_EQ("", difference(made[0], row_values, in, row));
        EXPECT_EQ("", difference(made[1], column_values, in, column));
      }
      EXPECT_EQ("", difference(quantize_on_gpu(in, {row}, DType::kBF16, {Wanted::kValues})[0], row_values, in, row));
    }
  }
}

// A block for every mantissa that its extreme may have: the divisions of the scales are exact.
TEST_F(CudaQuantize, EveryMantissaOfAnExtreme) {
  constexpr std::int64_t kBlocks = 1 << 20;
  for (std::uint32_t first = 0; first < 1u << 23; first += kBlocks) {
    HostMatrix in{DType::kF32, kBlocks, 16, 16, 0, std::vector<std::uint8_t>(kBlocks * 64)};
    auto* values = reinterpret_cast<float*>(in.bytes.data());
    for (std::uint32_t i = 0; i < kBlocks; ++i) {
      const float extreme = std::bit_cast<float>(0x3F800000u + first + i);
      for (std::uint32_t k = 0; k < 16; ++k) values[16 * i + k] = extreme * (0.125F * static_cast<float>(k) - 1);
    }
    for (const char* name : {"e1m2", "e2m1", "int4_full", "e2m1_max3"}) {
      const QuantizeSpec spec = make_spec(find_format(name), Axis::kRow, Rounding::kNearest, 0, 16);
      EXPECT_EQ("", difference(quantize_on_gpu(in, {spec}, {})[0], quantize_on_cpu(in, spec, {}), in, spec));
    }
  }
}

std::vector<std::string> format_names() {
  std::vector<std::string> names;
  for (const BlockFormat& format : formats()) {
    if (format.rule == ScaleRule::kAmax || format.rule == ScaleRule::kPow2Window) names.emplace_back(format.name);
  }
  return names;
}

INSTANTIATE_TEST_SUITE_P(Formats, CudaHundredMillion, ::testing::ValuesIn(format_names()),
                         [](const auto& name) { return name.param; });

}  // namespace
}  // namespace ufp4
