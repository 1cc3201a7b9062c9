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
#include "quantization/cases.h"
#include "ufp4/error.h"

namespace ufp4 {
namespace {

using testing::Array;
using testing::Choice;
using testing::kAxes;
using testing::kRoundings;
using testing::kTypes;
using testing::make_matrix;
using testing::Matrix;
using testing::Outcome;
using testing::Request;
using testing::Values;

class CudaQuantize : public ::testing::Test {
 protected:
  void SetUp() override {
    const cuda::DeviceStatus status = cuda::device_status();
    if (!status.usable) GTEST_SKIP() << status.sentence;
  }
};

// Grids that no table of the library has: they take the path of any grid.
const BlockFormat kThirds{"thirds",
                          {"thirds", 8, {0, 0.3F, 0.6F, 1, 1.3F, 2.2F, 3, 5}, CodeKind::kSignMagnitude},
                          16,
                          ScaleEncoding::kFp32,
                          ""};
const BlockFormat kThree{"three", {"three", 3, {0, 1, 3}, CodeKind::kTwosComplement}, 16, ScaleEncoding::kFp32, ""};
const BlockFormat kCoarse{
    "coarse", {"coarse", 4, {0, 2, 4, 6}, CodeKind::kSignMagnitude}, 16, ScaleEncoding::kFp32, ""};

// Second formats of rules that the library has one format of: what is theirs must come from the row.
BlockFormat derived(std::string_view from, std::string_view name) {
  BlockFormat format = find_format(from);
  format.name = name;
  return format;
}
const BlockFormat kOtherWindow = [] {
  BlockFormat format = derived("int4_p2", "other_window");
  format.outer_divisor = 14;
  format.window = {.least = -4, .largest = 1};
  format.outer_least = 0x1p-100F;
  return format;
}();
const BlockFormat kSmallFloats = [] {
  BlockFormat format = derived("nvfp4", "small_floats");
  format.element = find_format("e2m1_max3").element;
  format.outer_divisor = 1344;
  return format;
}();
// Its divisor has too many digits for the short way to divide.
const BlockFormat kOddBest = [] {
  BlockFormat format = derived("mixfp4", "odd_best");
  format.outer_divisor = 2688.12345F;
  return format;
}();
const BlockFormat kLowBest = [] {
  BlockFormat format = derived("four_over_six", "low_best");
  format.alternative.largest = 3;
  format.outer_divisor = 1344;
  return format;
}();
const BlockFormat kSmallExponents = [] {
  BlockFormat format = derived("mxfp4", "small_exponents");
  format.element = find_format("e2m1_max4").element;
  return format;
}();

std::vector<const BlockFormat*> all_formats() {
  std::vector<const BlockFormat*> list{&kThirds,      &kThree,   &kCoarse,  &kOtherWindow,
                                       &kSmallFloats, &kOddBest, &kLowBest, &kSmallExponents};
  for (const BlockFormat& format : formats()) list.push_back(&format);
  return list;
}

Request make_request(const BlockFormat& format, Axis axis, Rounding rounding, int hadamard, int block = 0) {
  Request request{testing::task_of(format, rounding, hadamard, axis, testing::has_block(format, block) ? block : 0)};
  request.task.place.seed = 0x123456789ABCDEFu;
  return request;
}

// What calls ask for of every request, or of the first and the others.
constexpr std::array<std::array<Choice, 2>, 6> kChoices{{{Choice::kAll, Choice::kAll},
                                                         {Choice::kPacked, Choice::kPacked},
                                                         {Choice::kValues, Choice::kValues},
                                                         {Choice::kValues, Choice::kPacked},
                                                         {Choice::kExact, Choice::kExact},
                                                         {Choice::kExact, Choice::kPacked}}};

void expect_equal(const Matrix& in, const std::vector<Request>& requests, DType dequantized = DType::kBF16) {
  std::vector<Outcome> cpu;
  cpu.reserve(requests.size());
  for (const Request& request : requests) cpu.push_back(testing::quantize_on_cpu(in, request, dequantized));
  for (const auto& [first, others] : kChoices) {
    if (first == Choice::kExact && requests[0].task.spec.format->exact == ExactValue::kNone) continue;
    std::vector<Choice> wanted(requests.size(), others);
    wanted[0] = first;
    const std::vector<Outcome> gpu = testing::quantize_on_gpu(in, requests, dequantized, wanted);
    for (std::size_t i = 0; i < requests.size(); ++i) {
      EXPECT_EQ("", difference(gpu[i], cpu[i], in, requests[i]))
          << "wanted " << static_cast<int>(first) << " and " << static_cast<int>(others);
    }
  }
}

std::vector<std::string> all_format_names() {
  std::vector<std::string> names;
  for (const BlockFormat* format : all_formats()) names.emplace_back(format->name);
  return names;
}

const BlockFormat& format_called(const std::string& name) {
  const std::vector<const BlockFormat*> list = all_formats();
  return **std::find_if(list.begin(), list.end(), [&](const auto* format) { return format->name == name; });
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
  const BlockFormat& format = format_called(GetParam());
  std::uint64_t seed = 1000 * GetParam().size();
  for (const Rounding rounding : kRoundings) {
    for (const int hadamard : {0, 16, 32, 64, 128}) {
      for (const int block : kBlockSizes) {
        const Shape& s = kShapes[++seed % kShapes.size()];
        const DType type = kTypes[seed / kShapes.size() % kTypes.size()];
        const Matrix in = make_matrix(s.rows, s.columns, type, Values::kPatches, seed, {s.padding, s.shift});
        for (const Axis axis : kAxes) {
          expect_equal(in, {make_request(format, axis, rounding, hadamard, block)},
                       seed % 2 == 0 ? DType::kBF16 : DType::kF32);
        }
        if (HasFailure()) return;
      }
    }
  }
}

// The transforms and blocks that training has, with both orientations from one read, on a matrix of many tiles.
TEST_P(CudaQuantizeOf, BothAxesFromOneRead) {
  const BlockFormat& format = format_called(GetParam());
  std::uint64_t seed = 3;
  for (const DType type : kTypes) {
    for (const Rounding rounding : kRoundings) {
      for (const int hadamard : {0, 16, 64}) {
        const Matrix in = make_matrix(270, 200, type, Values::kPatches, ++seed, {8, 0});
        const Request row = make_request(format, Axis::kRow, rounding, hadamard);
        Request column = make_request(format, Axis::kColumn, rounding, 16, 32);
        column.task.place.stream = 77;
        expect_equal(in, {row, column});
        expect_equal(in, {column, row, make_request(format, Axis::kColumn, rounding, 0)}, DType::kF32);
        if (HasFailure()) return;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, CudaQuantizeOf, ::testing::ValuesIn(all_format_names()),
                         [](const auto& name) { return name.param; });

// Two formats whose kernels share a policy, and two that only seem to.
TEST_F(CudaQuantize, FormatsThatShareARead) {
  for (const Rounding rounding : kRoundings) {
    const Matrix in = make_matrix(270, 200, DType::kBF16, Values::kPatches, 3, {8, 0});
    for (const auto& [one, other] :
         {std::pair{"e1m2", "int4"}, std::pair{"e2m1", "e2m1_max4"}, std::pair{"four_over_six", "mixfp4"},
          std::pair{"nvfp4", "mxfp4"}, std::pair{"nvint4", "mxint4"}}) {
      expect_equal(in, {make_request(find_format(one), Axis::kRow, rounding, 16),
                        make_request(find_format(other), Axis::kColumn, rounding, 16)});
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
      const Matrix in = make_matrix(s.rows, s.columns, type, Values::kPatches, 9, {4, 0});
      for (const char* format : {"e1m2", "nvfp4", "mixfp4", "hif4"}) {
        for (const Rounding rounding : kRoundings) {
          Request row = make_request(find_format(format), Axis::kRow, rounding, 16);
          row.task.place.row_offset = 40;
          row.task.place.column_offset = s.column_offset;
          Request column = row;
          column.task.place.axis = Axis::kColumn;
          expect_equal(in, {row, column});
          if (HasFailure()) return;
        }
      }
    }
  }
}

// A second-level scale for each row, or each tile, of matrices whose tiles are not whole.
TEST_F(CudaQuantize, SecondLevelScalesOfParts) {
  std::uint64_t seed = 300;
  for (const BlockFormat* format : {&find_format("int4_p2"), &kOtherWindow, &find_format("int4_i4")}) {
    for (const OuterScale each : kOuterScales) {
      if (!format->outer_scales.has(each)) continue;
      for (const Rounding rounding : kRoundings) {
        for (const int hadamard : {0, 16, 128}) {
          const DType type = kTypes[++seed % kTypes.size()];
          const bool segments = format->own_outer != OuterScale::kTensor;
          const Matrix in =
              make_matrix(segments ? 1100 : 300, segments ? 1300 : 200, type, Values::kPatches, seed, {8, 0});
          Request row = make_request(*format, Axis::kRow, rounding, hadamard, seed % 5 == 0 ? 32 : 16);
          row.task.spec.outer.each = each;
          Request column = row;
          column.task.place.axis = Axis::kColumn;
          expect_equal(in, {row, column}, seed % 2 == 0 ? DType::kBF16 : DType::kF32);
          if (HasFailure()) return;
        }
      }
    }
  }
}

// int4_p2: outer scales that fit, that clip, and at the ends of the range; and formats under a scale of the tensor that
// is not the matrix's own.
TEST_F(CudaQuantize, SecondLevelScalesThatAreGiven) {
  std::uint64_t seed = 100;
  for (const char* format : {"int4_p2", "nvfp4", "nvint4", "four_over_six", "mixfp4"}) {
    const bool window = find_format(format).has_window();
    for (const Rounding rounding : kRoundings) {
      for (const int hadamard : {0, 16, 64}) {
        for (const float amax : {14.0F, 3.5F, 0.04F, 1e6F, 0.0F, 0x1p-112F, 3e38F, 1e-30F}) {
          const DType type = kTypes[++seed % kTypes.size()];
          const Matrix in = make_matrix(150, 200, type, Values::kPatches, seed, {8, 0});
          Request row = make_request(find_format(format), Axis::kRow, rounding, hadamard, seed % 5 == 0 ? 32 : 16);
          row.amax = amax;
          if (window) row.task.spec.options.tau = seed % 3 == 0 ? 1.0F : seed % 3 == 1 ? 1.125F : 0.0F;
          row.task.place.row_offset = static_cast<std::uint32_t>(seed);
          Request column = row;
          column.task.place.axis = Axis::kColumn;
          column.task.spec.hadamard = make_hadamard(16, 3);
          column.amax = 0.5F * amax;
          expect_equal(in, {row, column}, seed % 2 == 0 ? DType::kBF16 : DType::kF32);
          expect_equal(in, {column});
          expect_equal(in, {row});
          if (HasFailure()) FAIL() << "tensor amax " << amax;
        }
      }
    }
  }
}

// Numbers in device memory stand for those of the host, also where they move an operand into a group of eight.
TEST_F(CudaQuantize, NumbersThatTheDeviceReads) {
  for (const char* format : {"e1m2", "int4_p2", "mxfp4"}) {
    for (const Axis axis : kAxes) {
      for (const std::uint32_t first_row : {0u, 64u, 3u}) {
        const Matrix in = make_matrix(200, 150, DType::kBF16, Values::kPatches, first_row);
        Request request = make_request(find_format(format), axis, Rounding::kStochastic, 16);
        request.task.place.row_offset = 100;
        request.task.place.column_offset = 16;
        request.moved = Request::Moved{77, 3, first_row};
        Request other = request;
        other.task.place.axis = Axis::kRow;
        expect_equal(in, {request});
        expect_equal(in, {request, other});
      }
    }
  }
}

TEST_F(CudaQuantize, RowsThatWereGathered) {
  const Matrix in = make_matrix(150, 200, DType::kBF16, Values::kPatches, 4);
  for (const char* format : {"e1m2", "nvfp4", "four_over_six"}) {
    Request row = make_request(find_format(format), Axis::kRow, Rounding::kStochastic, 16);
    for (std::uint32_t i = 0; i < 150; ++i) row.rows.push_back(i * 2654435761u);
    Request column = make_request(find_format(format), Axis::kColumn, Rounding::kStochastic, 16);
    expect_equal(in, {row});
    expect_equal(in, {row, column});
  }
}

// What quantize writes in any form, back to values.
TEST_F(CudaQuantize, DequantizesWhatItWrote) {
  constexpr std::int64_t kRows = 150;
  constexpr std::int64_t kColumns = 384;
  for (const BlockFormat* format : all_formats()) {
    for (const OuterScale each : kOuterScales) {
      const bool none = each == OuterScale::kTensor && !format->has_outer_scale();
      if (!none && !format->outer_scales.has(each)) continue;
      for (const DType dtype : {DType::kF32, DType::kBF16}) {
        const Matrix in = make_matrix(kRows, kColumns, DType::kBF16, Values::kPatches, 5);
        Request request = make_request(*format, Axis::kRow, Rounding::kNearest, 16);
        request.task.spec.outer.each = each;
        const Outcome cpu = testing::quantize_on_cpu(in, request, dtype);
        const auto of = [&](Array array) -> const std::vector<std::uint8_t>& {
          return cpu.results.bytes[static_cast<std::size_t>(array)];
        };
        const testing::DeviceBytes codes(of(Array::kCodes));
        const testing::DeviceBytes scales(of(Array::kScales));
        const testing::DeviceBytes packed_scales(of(Array::kPackedScales));
        const testing::DeviceBytes selectors(of(Array::kSelectors));
        const testing::DeviceBytes outer(of(Array::kOuterScales));
        ConstQuantized packed{format, 0, kRows, kColumns, codes.as<std::uint8_t>()};
        packed.packed_scales = packed_scales.as<std::uint8_t>();
        packed.outer = each;
        packed.outer_scales = outer.as<float>();
        ConstQuantized decoded{format, 0, kRows, kColumns, codes.as<std::uint8_t>(), scales.as<float>()};
        if (selectors.size() != 0) decoded.selectors = selectors.as<std::uint8_t>();
        if (format->outer_stays_apart(each)) {
          decoded.outer = each;
          decoded.outer_scales = outer.as<float>();
        }
        for (const ConstQuantized& form : {packed, decoded}) {
          const testing::DeviceBytes values(of(Array::kValues).size());
          cuda::dequantize(form, values.data(), dtype, nullptr);
          EXPECT_TRUE(values.fetch() == of(Array::kValues))
              << format->name << " " << name_of(each) << " " << name_of(dtype) << (form.scales ? "" : " packed");
        }
        if (format->exact == ExactValue::kInt8) {
          const testing::DeviceBytes int8(of(Array::kInt8).size());
          cuda::dequantize_int8(packed, int8.as<std::int8_t>(), nullptr);
          EXPECT_TRUE(int8.fetch() == of(Array::kInt8)) << format->name << " " << name_of(each);
        }
        if (format->exact != ExactValue::kE4m3) continue;
        const testing::DeviceBytes e4m3(of(Array::kE4m3).size());
        cuda::dequantize_e4m3(packed, e4m3.as<std::uint8_t>(), nullptr);
        EXPECT_TRUE(e4m3.fetch() == of(Array::kE4m3)) << format->name << " " << name_of(each);
      }
    }
  }
}

TEST_F(CudaQuantize, ShardsTakeTheRandomBitsOfTheWhole) {
  for (const Axis axis : kAxes) {
    for (const std::uint32_t offset : {0u, 8u, 1u, 2u, 5u, 7u, 0xFFFFFFF4u}) {
      for (const char* format : {"e1m2", "mixfp4"}) {
        const Matrix in = make_matrix(48, 80, DType::kBF16, Values::kPatches, offset);
        Request request = make_request(find_format(format), axis, Rounding::kStochastic, 16);
        request.task.place.column_offset = offset;
        request.task.place.row_offset = 3 * offset;
        expect_equal(in, {request});
      }
    }
  }
}

TEST_F(CudaQuantize, EmptyMatricesNeedNoMemory) {
  DeviceTask nothing;
  nothing.task.spec = {&find_format("e1m2"), 16};
  DeviceTask empty = nothing;
  empty.task.place.axis = Axis::kColumn;
  EXPECT_NO_THROW(cuda::quantize({nullptr, DType::kF32, 0, 10, 10}, {&nothing, 1}, nullptr));
  EXPECT_NO_THROW(cuda::quantize({nullptr, DType::kF32, 10, 0, 10}, {&empty, 1}, nullptr));
}

// The whole contract at once: 10^8 elements of every variant that training uses, a format a case.
class CudaHundredMillion : public CudaQuantize, public ::testing::WithParamInterface<std::string> {
 protected:
  static constexpr std::int64_t kRows = 8192;
  static constexpr std::int64_t kColumns = 12288;
};

TEST_P(CudaHundredMillion, EveryRoundingTransformAndAxis) {
  static const Matrix in = make_matrix(kRows, kColumns, DType::kBF16, Values::kNormal, 42);
  const BlockFormat& format = find_format(GetParam());
  const bool window = format.has_window();
  for (const Rounding rounding : kRoundings) {
    for (const int hadamard : {0, 16}) {
      Request row = make_request(format, Axis::kRow, rounding, hadamard);
      if (window) row.amax = 2.5F;  // a few blocks are beyond its window
      Request column = row;
      column.task.place.axis = Axis::kColumn;
      const Outcome row_on_cpu = quantize_on_cpu(in, row, {});
      const Outcome column_on_cpu = quantize_on_cpu(in, column, {});
      const Choice rows = format.exact != ExactValue::kNone ? Choice::kExact : Choice::kPacked;
      const Choice columns = rounding == Rounding::kStochastic ? rows : Choice::kPacked;
      EXPECT_EQ("", difference(quantize_on_gpu(in, {row}, {}, {rows})[0], row_on_cpu, in, row));
      const std::vector<Outcome> both = quantize_on_gpu(in, {row, column}, {}, {rows, columns});
      EXPECT_EQ("", difference(both[0], row_on_cpu, in, row));
      EXPECT_EQ("", difference(both[1], column_on_cpu, in, column));
      EXPECT_EQ("", difference(quantize_on_gpu(in, {column}, {}, {columns})[0], column_on_cpu, in, column));
      if (window) continue;
      // In BF16, as the emulated products take them: with the stash, both, and rows alone.
      const Outcome row_values = quantize_on_cpu(in, row, DType::kBF16);
      const Outcome column_values = quantize_on_cpu(in, column, DType::kBF16);
      for (const Choice stash : {Choice::kPacked, Choice::kValues}) {
        const auto made = quantize_on_gpu(in, {row, column}, DType::kBF16, {Choice::kValues, stash});
        EXPECT_EQ("", difference(made[0], row_values, in, row));
        EXPECT_EQ("", difference(made[1], column_values, in, column));
      }
      EXPECT_EQ("", difference(quantize_on_gpu(in, {row}, DType::kBF16, {Choice::kValues})[0], row_values, in, row));
    }
  }
}

// Matrices in which one element of every block has been moved to where the two ways are as good as each other, or as
// far as FP32 allows, by halving what lies between two values for which numerics chooses differently.
Matrix nearly_even(const BlockFormat& format, float amax, std::uint64_t seed) {
  constexpr std::int64_t kRows = 256;
  constexpr std::int64_t kColumns = 1024;
  constexpr std::int64_t kMoved = 5;
  Matrix low = make_matrix(kRows, kColumns, DType::kF32, Values::kNormal, seed);
  Matrix high = low;
  const auto each_block = [&](auto f) {
    for (std::int64_t r = 0; r < kRows; ++r) {
      for (std::int64_t c = 0; c < kColumns; c += format.block)
        f(r, c + kMoved, static_cast<std::size_t>((r * kColumns + c) / format.block));
    }
  };
  each_block([&](std::int64_t r, std::int64_t c, std::size_t) {
    low.set(r, c, 0);
    high.set(r, c, std::abs(high.get(r, c)) * 0.5F);
  });
  const auto choices = [&](const Matrix& m) {
    const Request request{testing::task_of(format), amax};
    const auto scales = testing::quantize_on_cpu(m, request, {}).results.scales();
    return std::vector<float>(scales.begin(), scales.end());
  };
  const std::vector<float> low_choice = choices(low);
  std::vector<float> high_choice = choices(high);
  Matrix middle = low;
  for (int step = 0; step < 34; ++step) {
    each_block([&](std::int64_t r, std::int64_t c, std::size_t) {
      const auto below = std::bit_cast<std::uint32_t>(low.get(r, c));
      const auto above = std::bit_cast<std::uint32_t>(high.get(r, c));
      middle.set(r, c, std::bit_cast<float>(below + (above - below) / 2));
    });
    const std::vector<float> choice = choices(middle);
    each_block([&](std::int64_t r, std::int64_t c, std::size_t block) {
      if (low_choice[block] == high_choice[block]) return;
      if (choice[block] == low_choice[block]) {
        low.set(r, c, middle.get(r, c));
      } else {
        high.set(r, c, middle.get(r, c));
        high_choice[block] = choice[block];
      }
    });
  }
  std::size_t found = 0;
  each_block([&](std::int64_t r, std::int64_t c, std::size_t block) {
    if (low_choice[block] == high_choice[block]) return;
    ++found;
    const auto bits = std::bit_cast<std::uint32_t>(low.get(r, c));
    low.set(r, c, std::bit_cast<float>(bits + static_cast<std::uint32_t>(block % 5) - 2));
  });
  EXPECT_GT(found, 100u) << format.name;
  return low;
}

// The kernels compare sums that they find in an order of their own, where these are far enough from each other.
TEST_F(CudaQuantize, BlocksForWhichTwoWaysAreNearlyAsGood) {
  constexpr float kAmax = 7;
  for (const BlockFormat* format : {&find_format("four_over_six"), &find_format("mixfp4")}) {
    for (const std::uint64_t seed : {1u, 2u, 3u}) {
      const Matrix in = nearly_even(*format, kAmax, seed);
      Request row = make_request(*format, Axis::kRow, Rounding::kNearest, 0);
      row.amax = kAmax;
      Request column = row;
      column.task.place.axis = Axis::kColumn;
      expect_equal(in, {row});
      expect_equal(in, {row, column});
      expect_equal(testing::transposed(in), {column});
    }
  }
}

// A block for every mantissa that its extreme may have: the divisions of the scales are exact.
TEST_F(CudaQuantize, EveryMantissaOfAnExtreme) {
  constexpr std::int64_t kBlocks = 1 << 20;
  for (std::uint32_t first = 0; first < 1u << 23; first += kBlocks) {
    Matrix in(kBlocks, 16);
    auto* values = reinterpret_cast<float*>(in.bytes.data());
    for (std::uint32_t i = 0; i < kBlocks; ++i) {
      const float extreme = std::bit_cast<float>(0x3F800000u + first + i);
      for (std::uint32_t k = 0; k < 16; ++k) values[16 * i + k] = extreme * (0.125F * static_cast<float>(k) - 1);
    }
    for (const char* name :
         {"e1m2", "e2m1", "int4_full", "e2m1_max3", "nvfp4", "nvint4", "four_over_six", "mixfp4", "mxfp4"}) {
      const Request request = make_request(find_format(name), Axis::kRow, Rounding::kNearest, 0, 16);
      EXPECT_EQ("", difference(quantize_on_gpu(in, {request}, {})[0], quantize_on_cpu(in, request, {}), in, request));
    }
  }
}

std::vector<std::string> format_names() {
  std::vector<std::string> names;
  for (const BlockFormat& format : formats()) names.emplace_back(format.name);
  return names;
}

INSTANTIATE_TEST_SUITE_P(Formats, CudaHundredMillion, ::testing::ValuesIn(format_names()),
                         [](const auto& name) { return name.param; });

// What is refused before anything is launched needs no device.
class CudaRefuses : public ::testing::Test {
 protected:
  static void expect_refused(const DeviceTask& task, const std::string& text) {
    expect_error([&] { cuda::quantize(good(), {&task, 1}, nullptr); }, text);
  }
  template <typename F>
  static void expect_error(F f, const std::string& text) {
    try {
      f();
      FAIL() << "accepted, where an error with '" << text << "' was expected";
    } catch (const InputError& error) {
      EXPECT_NE(std::string(error.what()).find(text), std::string::npos) << error.what();
    }
  }
  static std::uint8_t* somewhere() {
    alignas(16) static std::array<std::uint8_t, 64> bytes{};  // never read: the calls are refused
    return bytes.data();
  }
  static ConstMatrix good() { return {somewhere(), DType::kBF16, 4, 16, 16}; }
  static DeviceTask task_of(std::string_view format) {
    DeviceTask task;
    task.task.spec = {&find_format(format), 16};
    return task;
  }
};

TEST_F(CudaRefuses, Matrices) {
  const DeviceTask task = task_of("e1m2");
  EXPECT_THROW(cuda::quantize({nullptr, DType::kBF16, 4, 16, 16}, {&task, 1}, nullptr), InputError);
  EXPECT_THROW(cuda::quantize({&task, DType::kBF16, 4, 16, 8}, {&task, 1}, nullptr), InputError);
  EXPECT_THROW(cuda::quantize({somewhere() + 1, DType::kBF16, 4, 16, 16}, {&task, 1}, nullptr), InputError);
}

TEST_F(CudaRefuses, Results) {
  DeviceTask task = task_of("e1m2");
  task.task.out.codes = somewhere() + 4;
  expect_refused(task, "aligned to 8 bytes");
  task.task.out = {};
  task.task.out.dequantized = somewhere() + 8;
  expect_refused(task, "aligned to 16 bytes");
  task.task.out = {};
  task.task.out.e4m3 = somewhere();
  expect_refused(task, "E4M3");
  task = task_of("hif4");
  task.task.spec.block = 0;
  task.task.out.packed_scales = somewhere() + 2;
  expect_refused(task, "aligned to 4 bytes");
}

TEST_F(CudaRefuses, Specifications) {
  DeviceTask task = task_of("e1m2");
  task.task.spec.block = 24;
  expect_refused(task, "block size 24");
  for (const char* format : {"nvfp4", "mixfp4", "int4_p2"}) expect_refused(task_of(format), "raise_outer_amax");
  task = task_of("e1m2");
  task.task.spec.hadamard = make_hadamard(16, 1);
  task.task.spec.hadamard.round_to_bf16 = true;
  expect_refused(task, "transform");
  task = task_of("e1m2");
  const std::uint32_t number = 0;
  task.only_if = &number;
  expect_refused(task, "no window");
  task = task_of("e1m2");
  task.task.place.row_numbers = &number;
  task.task.place.axis = Axis::kColumn;
  expect_refused(task, "row numbers");
  // A window so far from 1 that FP32 ends within it.
  static const BlockFormat wide = [] {
    BlockFormat format = find_format("int4_p2");
    format.window.largest = 100;
    return format;
  }();
  task = task_of("int4_p2");
  task.task.spec.format = &wide;
  expect_refused(task, "do not know");
}

TEST_F(CudaRefuses, MagnitudesThatNothingFollowsFrom) {
  cuda::AmaxTask task{{&find_format("e1m2")}, {}, nullptr};
  expect_error([&] { cuda::raise_outer_amax(good(), {&task, 1}, nullptr); }, "no second-level scale");
  task.spec.format = &find_format("nvfp4");
  expect_error([&] { cuda::raise_outer_amax(good(), {&task, 1}, nullptr); }, "no place");
}

TEST_F(CudaRefuses, PackedMatrices) {
  ConstQuantized packed{&find_format("nvfp4"), 0, 1, 16, somewhere() + 4};
  packed.packed_scales = somewhere();
  expect_error([&] { cuda::dequantize(packed, somewhere(), DType::kBF16, nullptr); }, "aligned to 8");
  packed.codes = somewhere();
  expect_error([&] { cuda::dequantize_e4m3(packed, somewhere(), nullptr); }, "E4M3");
}

TEST(CudaKernels, KnowEveryFormat) {
  for (const BlockFormat& format : formats()) {
    EXPECT_TRUE(cuda::has_kernels(format)) << format.name;
    OperandSpec spec{&format};
    spec.hadamard = make_hadamard(16, 1);
    EXPECT_TRUE(cuda::takes(spec)) << format.name;
    spec.hadamard.round_to_bf16 = true;
    EXPECT_FALSE(cuda::takes(spec)) << format.name;
  }
}

}  // namespace
}  // namespace ufp4
