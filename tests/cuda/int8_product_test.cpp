// INT8 products on a GPU against the scalar reference, to the bit; and how they are launched, without one.
#include "cuda/int8_product.h"

#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "cuda/device_case.h"
#include "message_of.h"
#include "ufp4/dtype.h"
#include "ufp4/error.h"

namespace ufp4::cuda {
namespace {

using testing::DeviceBytes;

constexpr std::array<std::int64_t, 6> kSegments{0, 128, 256, 512, 1024, 384};
constexpr std::array kResults{Int8Result::kBf16, Int8Result::kF32, Int8Result::kF32Added};

class CudaInt8Product : public ::testing::Test {
 protected:
  void SetUp() override {
    const DeviceStatus status = int8_status();
    if (!status.usable) GTEST_SKIP() << status.sentence;
  }
};

struct Shape {
  std::int64_t m, n, k;
};

// What the integers of a case are like.
enum class Data { kRandom, kLargest, kLargestNegative };

struct Case {
  Shape shape;
  std::int64_t segment = 0;
  Int8Result result = Int8Result::kF32;
  Data data = Data::kRandom;
  Int8Groups grouped = Int8Groups::kNone;
  std::vector<std::int32_t> offsets{};
  bool segments_first = false;  // how scales lie: [segments, rows] in place of [rows, segments]
  std::int64_t padding = 0;     // elements between the rows of out
};

// The matrices of a case, in host memory and on the device.
class Matrices {
 public:
  Matrices(Case c, unsigned seed) : case_(std::move(c)), random_(seed) {
    product_.m = case_.shape.m;
    product_.n = case_.shape.n;
    product_.k = case_.shape.k;
    product_.segment = case_.segment;
    product_.result = case_.result;
    product_.grouped = case_.grouped;
    product_.out_row_stride = product_.n + case_.padding;
    if (case_.grouped != Int8Groups::kNone) product_.groups = std::ssize(case_.offsets) - 1;
    const bool rows = case_.grouped == Int8Groups::kRows;
    const bool depth = case_.grouped == Int8Groups::kDepth;
    segments_ = depth ? 0 : segments_of(product_, product_.k);
    for (std::size_t g = 0; depth && g + 1 < case_.offsets.size(); ++g) {
      segments_ += segments_of(product_, case_.offsets[g + 1] - case_.offsets[g]);
    }
    const bool down = case_.data == Data::kLargestNegative;
    const bool same = case_.data != Data::kRandom;
    a_ = integers(product_.m, same, 120);
    b_ = integers((rows ? product_.groups : 1) * product_.n, same, down ? -120 : 120);
    a_scales_ = scales(product_.m);
    b_scales_ = scales((rows ? product_.groups : 1) * product_.n);
    out_rows_ = product_.m * (depth ? product_.groups : 1);
    const std::int64_t count = std::max<std::int64_t>(0, out_rows_ * product_.out_row_stride);
    if (case_.result == Int8Result::kBf16) {
      before_.assign(static_cast<std::size_t>(count * 2), 0x5A);
    } else {
      std::vector<float> values(static_cast<std::size_t>(count));
      std::normal_distribution<float> normal;
      for (float& value : values) value = normal(random_);
      before_.resize(values.size() * 4);
      std::memcpy(before_.data(), values.data(), before_.size());
    }
  }

  const Int8Product& shape() const { return product_; }

  // By the reference, a share of the rows a thread.
  std::vector<std::uint8_t> expected() const {
    std::vector<std::uint8_t> out = before_;
    const Int8Product p = on(a_.data(), b_.data(), a_scales_.data(), b_scales_.data(), out.data(), offsets());
    if (case_.grouped != Int8Groups::kNone) {
      int8_product_reference(p);
      return out;
    }
    const std::int64_t parts =
        std::max<std::int64_t>(1, std::min<std::int64_t>(p.m, std::thread::hardware_concurrency()));
    std::vector<std::thread> threads;
    for (std::int64_t i = 0; i < parts; ++i) {
      threads.emplace_back([&p, i, parts] {
        const std::int64_t first = p.m * i / parts;
        Int8Product part = p;
        part.m = p.m * (i + 1) / parts - first;
        part.a.values += first * p.a.row_stride;
        part.a.scales += first * p.a.scale_row_stride;
        part.out =
            static_cast<std::uint8_t*>(p.out) + first * p.out_row_stride * (p.result == Int8Result::kBf16 ? 2 : 4);
        int8_product_reference(part);
      });
    }
    for (std::thread& thread : threads) thread.join();
    return out;
  }

  // Calls `run` with the product on the device, and returns what is there then.
  template <typename Run>
  std::vector<std::uint8_t> found(const Run& run) const {
    const DeviceBytes a(bytes_of(a_)), b(bytes_of(b_)), a_scales(bytes_of(a_scales_)), b_scales(bytes_of(b_scales_)),
        offsets(bytes_of(case_.offsets)), out(before_);
    run(on(a.as<std::int8_t>(), b.as<std::int8_t>(), a_scales.as<float>(), b_scales.as<float>(), out.data(),
           offsets.as<std::int32_t>()));
    return out.fetch();
  }

  // Empty, or the first place that differs. All NaN are the same.
  std::string difference(const std::vector<std::uint8_t>& found, const std::vector<std::uint8_t>& expected) const {
    const bool narrow = case_.result == Int8Result::kBf16;
    const auto bits = [&](const std::vector<std::uint8_t>& bytes, std::int64_t i) {
      std::uint32_t value = 0;
      std::memcpy(&value, bytes.data() + i * (narrow ? 2 : 4), narrow ? 2 : 4);
      return narrow ? value << 16 : value;
    };
    std::int64_t wrong = 0;
    std::string first;
    for (std::int64_t i = 0; i < out_rows_ * product_.out_row_stride; ++i) {
      const std::uint32_t x = bits(found, i), y = bits(expected, i);
      const auto value = [](std::uint32_t u) { return std::bit_cast<float>(u); };
      if (x == y || (std::isnan(value(x)) && std::isnan(value(y)))) continue;
      if (wrong++ != 0) continue;
      first = "row " + std::to_string(i / product_.out_row_stride) + ", column " +
              std::to_string(i % product_.out_row_stride) + ": found " + std::to_string(value(x)) + ", expected " +
              std::to_string(value(y));
    }
    return wrong == 0 ? "" : std::to_string(wrong) + " results differ, the first in " + first;
  }

 private:
  static std::vector<std::uint8_t> bytes_of(const auto& values) {
    std::vector<std::uint8_t> bytes(std::max<std::size_t>(16, values.size() * sizeof values[0]));
    if (!values.empty()) std::memcpy(bytes.data(), values.data(), values.size() * sizeof values[0]);
    return bytes;
  }

  const std::int32_t* offsets() const { return case_.offsets.empty() ? nullptr : case_.offsets.data(); }

  std::vector<std::int8_t> integers(std::int64_t rows, bool same, int largest) {
    std::vector<std::int8_t> values(static_cast<std::size_t>(rows * product_.k));
    std::uniform_int_distribution<int> any(-120, 120);
    for (std::int8_t& value : values) value = static_cast<std::int8_t>(same ? largest : any(random_));
    return values;
  }

  // Positive, over some powers of two; a few are 0, tiny or, in rows of their own, NaN.
  std::vector<float> scales(std::int64_t rows) {
    std::vector<float> values(static_cast<std::size_t>(rows * segments_));
    std::uniform_real_distribution<float> one(1, 2);
    std::uniform_int_distribution<int> exponent(-12, 4), rare(0, 199);
    for (float& value : values) {
      value = std::ldexp(one(random_), exponent(random_));
      const int special = case_.data == Data::kRandom ? rare(random_) : 3;
      if (special == 0) value = 0;
      if (special == 1) value = std::ldexp(value, -68);  // the product of two is subnormal
    }
    if (case_.data == Data::kRandom && rows > 20 && !values.empty()) {
      values[static_cast<std::size_t>(index_below(values.size()))] = std::numeric_limits<float>::quiet_NaN();
    }
    return values;
  }
  std::size_t index_below(std::size_t below) {
    return std::uniform_int_distribution<std::size_t>(0, below - 1)(random_);
  }

  Int8Product on(const std::int8_t* a, const std::int8_t* b, const float* a_scales, const float* b_scales, void* out,
                 const std::int32_t* offsets) const {
    Int8Product p = product_;
    const auto operand = [&](const std::int8_t* values, const float* scale, std::int64_t rows) {
      return case_.segments_first ? Int8Operand{values, p.k, scale, 1, rows}
                                  : Int8Operand{values, p.k, scale, segments_, 1};
    };
    p.a = operand(a, a_scales, p.m);
    p.b = operand(b, b_scales, p.grouped == Int8Groups::kRows ? p.groups * p.n : p.n);
    p.out = out;
    p.offsets = p.grouped == Int8Groups::kNone ? nullptr : offsets;
    return p;
  }

  Case case_;
  std::mt19937 random_;
  Int8Product product_;
  std::int64_t segments_ = 0, out_rows_ = 0;
  std::vector<std::int8_t> a_, b_;
  std::vector<float> a_scales_, b_scales_;
  std::vector<std::uint8_t> before_;
};

// By every kernel and every launch that this device has.
std::int64_t expect_reference(const Case& c, unsigned seed) {
  const Matrices matrices(c, seed);
  const std::vector<std::uint8_t> expected = matrices.expected();
  const auto check_run = [&](const std::string& name, const auto& run) {
    std::string difference;
    try {
      difference = matrices.difference(matrices.found(run), expected);
    } catch (const std::exception& error) {
      difference = error.what();
    }
    EXPECT_EQ(difference, "") << describe(matrices.shape()) << " by " << name;
  };
  check_run("mma", [](const Int8Product& p) { int8_product(p, Int8Kernel::kMma, std::nullopt, nullptr); });
  check_run("the best", [](const Int8Product& p) { int8_product(p, nullptr); });
  if (has_wgmma()) {
    for (const Int8Launch& launch : int8_launches(matrices.shape())) {
      check_run(describe(launch), [&](const Int8Product& p) { int8_product(p, Int8Kernel::kWgmma, launch, nullptr); });
      if (::testing::Test::HasFailure()) break;
    }
  }
  return c.shape.m * c.shape.n;
}

TEST_F(CudaInt8Product, OneTile) {
  for (const std::int64_t segment : {0, 128}) {
    expect_reference({.shape = {128, 128, 128}, .segment = segment}, 1);
    expect_reference({.shape = {128, 256, 512}, .segment = segment}, 2);
  }
}

TEST_F(CudaInt8Product, IsTheReferenceInOddShapes) {
  constexpr std::array kShapes{Shape{1, 1, 16},       Shape{3, 33, 48},      Shape{129, 191, 144},
                               Shape{64, 160, 1040},  Shape{257, 130, 384},  Shape{300, 513, 528},
                               Shape{1000, 97, 2064}, Shape{127, 1024, 1536}};
  unsigned seed = 10;
  for (const Shape& shape : kShapes) {
    for (const std::int64_t segment : kSegments) {
      for (const Int8Result result : kResults) {
        expect_reference({.shape = shape,
                          .segment = segment,
                          .result = result,
                          .segments_first = seed % 2 == 0,
                          .padding = seed % 3},
                         seed);
        ++seed;
        if (HasFailure()) return;
      }
    }
  }
}

TEST_F(CudaInt8Product, TenMillionResults) {
  std::int64_t results = 0;
  unsigned seed = 500;
  for (const std::int64_t segment : kSegments) {
    for (const Int8Result result : kResults) {
      results +=
          expect_reference({.shape = {777, 736 + 16 * (seed % 3), 1104}, .segment = segment, .result = result}, seed);
      ++seed;
      if (HasFailure()) return;
    }
  }
  EXPECT_GE(results, 10'000'000);
}

TEST_F(CudaInt8Product, TheLargestSumsDoNotOverflow) {
  for (const Data data : {Data::kLargest, Data::kLargestNegative}) {
    for (const std::int64_t k : {std::int64_t{1024}, kInt8Piece, kInt8Piece + 16, std::int64_t{200'000}}) {
      for (const std::int64_t segment : {0, 1024}) {
        expect_reference({.shape = {70, 40, k}, .segment = segment, .data = data}, 7);
      }
    }
  }
}

TEST_F(CudaInt8Product, NothingToContractIsZeroOrLeavesTheResult) {
  for (const Int8Result result : kResults) expect_reference({.shape = {37, 64, 0}, .result = result}, 8);
  expect_reference({.shape = {0, 64, 128}}, 9);
  expect_reference({.shape = {64, 0, 128}}, 9);
}

// Groups of 0, 1, 15, 16, 17 and more rows.
TEST_F(CudaInt8Product, GroupsOfRows) {
  const std::vector<std::int32_t> offsets{0, 0, 1, 16, 32, 49, 49, 177, 306, 700};
  unsigned seed = 600;
  for (const std::int64_t segment : {0, 128, 512}) {
    for (const Int8Result result : kResults) {
      for (const std::int64_t n : {std::int64_t{288}, std::int64_t{77}}) {
        expect_reference({.shape = {700, n, 656},
                          .segment = segment,
                          .result = result,
                          .grouped = Int8Groups::kRows,
                          .offsets = offsets},
                         seed++);
      }
    }
  }
}

TEST_F(CudaInt8Product, GroupsOfTheDepth) {
  const std::vector<std::int32_t> offsets{0, 0, 16, 32, 160, 160, 304, 1328, 1456, 2000, 2000};
  unsigned seed = 700;
  for (const std::int64_t segment : {0, 128, 512, 1024}) {
    for (const Int8Result result : kResults) {
      for (const std::int64_t n : {std::int64_t{288}, std::int64_t{77}}) {
        expect_reference({.shape = {150, n, 2000},
                          .segment = segment,
                          .result = result,
                          .grouped = Int8Groups::kDepth,
                          .offsets = offsets},
                         seed++);
      }
    }
  }
}

// A graph replays the product on what memory then holds.
TEST_F(CudaInt8Product, InAGraph) {
  const Matrices matrices({.shape = {300, 256, 1040}, .segment = 512, .result = Int8Result::kF32Added}, 9);
  const auto once = matrices.found([](const Int8Product& p) {
    int8_product(p, nullptr);
    int8_product(p, nullptr);
  });
  const auto replayed = matrices.found([](const Int8Product& p) {
    cudaStream_t stream = nullptr;
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    ASSERT_EQ(cudaStreamCreate(&stream), cudaSuccess);
    ASSERT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), cudaSuccess);
    int8_product(p, stream);
    ASSERT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
    ASSERT_EQ(cudaGraphInstantiate(&executable, graph, 0), cudaSuccess);
    for (int i = 0; i < 2; ++i) ASSERT_EQ(cudaGraphLaunch(executable, stream), cudaSuccess);
    ASSERT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
    cudaGraphExecDestroy(executable);
    cudaGraphDestroy(graph);
    cudaStreamDestroy(stream);
  });
  EXPECT_EQ(matrices.difference(replayed, once), "");
}

TEST_F(CudaInt8Product, RefusesWhatItCannotRead) {
  const DeviceBytes memory(4096);
  Int8Product p{.m = 4, .n = 4, .k = 32, .result = Int8Result::kF32};
  p.a = p.b = {memory.as<std::int8_t>(), 32, memory.as<float>(), 1, 1};
  p.out = memory.data();
  p.out_row_stride = 4;
  const auto message = [](const Int8Product& product) {
    return message_of<InputError>([&] { int8_product(product, nullptr); });
  };
  Int8Product bad = p;
  bad.a.values += 1;
  EXPECT_NE(message(bad).find("operand a does not begin at a multiple of 16 bytes"), std::string::npos) << message(bad);
  bad = p;
  bad.b.row_stride = 40;
  EXPECT_NE(message(bad).find("operand b does not begin at a multiple of 16 bytes"), std::string::npos) << message(bad);
  bad = p;
  bad.k = 24;
  EXPECT_NE(message(bad).find("24 elements to contract, expected a multiple of 16"), std::string::npos) << message(bad);
}

// Without a device.

TEST(Int8Launch, RowsAreWhole) {
  Int8Product p{.m = 100, .n = 100, .k = 4096};
  for (const Int8Launch& launch : int8_launches(p)) EXPECT_TRUE(launch.whole) << describe(launch);
  EXPECT_EQ(int8_launches(p).size(), 12);
  p.segment = 512;
  for (const Int8Launch& launch : int8_launches(p)) EXPECT_FALSE(launch.whole) << describe(launch);
  p.segment = 0;
  p.k = kInt8Piece + 16;
  for (const Int8Launch& launch : int8_launches(p)) EXPECT_TRUE(launch.whole) << describe(launch);
}

TEST(Int8Launch, TilesFillTheDevice) {
  // 176 tiles of 192 columns would be two rounds of 132, 256 of 128 columns are too.
  const Int8Launch square = int8_launch({.m = 2048, .n = 2048, .k = 16384, .segment = 512}, 132);
  EXPECT_EQ(square.columns, 128) << describe(square);
  const Int8Launch wide = int8_launch({.m = 12288, .n = 2048, .k = 16384, .segment = 512}, 132);
  EXPECT_EQ(wide.columns, 192) << describe(wide);
  const Int8Launch row = int8_launch({.m = 16384, .n = 6144, .k = 2048}, 132);
  EXPECT_FALSE(row.in_turn) << describe(row);
  EXPECT_EQ(row.columns, 256) << describe(row);
  EXPECT_EQ(row.share, Int8Share::kB) << describe(row);
}

}  // namespace
}  // namespace ufp4::cuda
