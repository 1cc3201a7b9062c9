// The backend "cuda": host memory in, host memory out.
#include <gtest/gtest.h>

#include <algorithm>

#include "cuda/backend.h"
#include "cuda/device_case.h"
#include "cuda/quantize.h"
#include "quantization/cases.h"
#include "ufp4/error.h"

namespace ufp4 {
namespace {

TEST(CudaBackend, IsListedAndNeverChosenUnasked) {
  const auto list = backends();
  EXPECT_EQ(list.back()->name(), "cuda");
  EXPECT_NE(default_backend().name(), "cuda");
}

TEST(CudaBackend, SaysWhatIsMissing) {
  const cuda::DeviceStatus status = cuda::device_status();
  EXPECT_FALSE(status.sentence.empty());
  if (status.usable) GTEST_SKIP() << "nothing is missing: " << status.sentence;
  try {
    find_backend("cuda");
    FAIL() << "a device that is not usable was accepted";
  } catch (const InputError& error) {
    EXPECT_NE(std::string(error.what()).find(status.sentence), std::string::npos) << error.what();
  }
}

class CudaBackendOnDevice : public ::testing::Test {
 protected:
  void SetUp() override {
    const cuda::DeviceStatus status = cuda::device_status();
    if (!status.usable) GTEST_SKIP() << status.sentence;
  }
};

TEST_F(CudaBackendOnDevice, NamesTheDevice) { EXPECT_EQ(cuda::backend().device(), cuda::device_status().sentence); }

// Wide rows make several slabs: offsets and places in the results are then not zero.
TEST_F(CudaBackendOnDevice, SlabsGiveTheBitsOfTheWhole) {
  struct Case {
    const char* format;
    OuterScale each;
  };
  const testing::Matrix in =
      testing::make_matrix(300, 262144 + 24, DType::kBF16, testing::Values::kPatches, 9, {.padding = 8});
  for (const auto& [format, each] :
       {Case{"e1m2", OuterScale::kTensor}, Case{"nvfp4", OuterScale::kTensor}, Case{"hif4", OuterScale::kTensor},
        Case{"int4_p2", OuterScale::kRow}, Case{"int4_p2", OuterScale::k1x128}, Case{"int4_p2", OuterScale::k128x128},
        Case{"int4_i4", OuterScale::k1x512}, Case{"int4_i4", OuterScale::kRow}}) {
    for (const Axis axis : testing::kAxes) {
      testing::Request request{testing::task_of(format, Rounding::kStochastic, 16, axis)};
      request.task.spec.outer.each = each;
      request.task.place.row_offset = 4;
      request.task.place.column_offset = 16;
      const testing::Outcome cpu = quantize_on_cpu(in, request, DType::kBF16);
      testing::Outcome gpu{testing::Results(in.view(), request.task, cpu.results.wanted), cpu.outer_amax};
      const QuantizeTask task = gpu.results.writing();
      cuda::backend().quantize(in.view(), {&task, 1});  // finds the magnitudes too
      EXPECT_EQ("", difference(gpu, cpu, in, request));
      // The whole in two parts.
      std::ranges::fill(gpu.results.bytes[static_cast<std::size_t>(testing::Array::kCodes)], std::uint8_t{0});
      std::ranges::fill(gpu.results.bytes[static_cast<std::size_t>(testing::Array::kClipped)], std::uint8_t{0});
      cuda::backend().quantize_rows(in.view(), {&task, 1}, {0, 128});
      cuda::backend().quantize_rows(in.view(), {&task, 1}, {128, 300});
      EXPECT_EQ("", difference(gpu, cpu, in, request));

      testing::Results values = cpu.results;
      std::vector<std::uint8_t>& bytes = values.bytes[static_cast<std::size_t>(testing::Array::kValues)];
      std::ranges::fill(bytes, std::uint8_t{0});
      cuda::backend().dequantize(cpu.results.packed_operand(), bytes.data(), DType::kBF16);
      EXPECT_EQ(first_difference(values, cpu.results), "") << testing::describe(in.view(), request.task);
      if (HasFailure()) return;
    }
  }
}

TEST_F(CudaBackendOnDevice, DequantizesEveryFormatAndBlock) {
  const testing::Matrix in = testing::make_matrix(45, 300, DType::kF32, testing::Values::kPatches, 2);
  for (const BlockFormat& format : formats()) {
    for (const int block : kBlockSizes) {
      if (!testing::has_block(format, block)) continue;
      for (const DType dtype : {DType::kF32, DType::kBF16}) {
        const testing::Request request{testing::task_of(format, Rounding::kNearest, 0, Axis::kRow, block)};
        const testing::Outcome cpu = quantize_on_cpu(in, request, dtype);
        testing::Results values = cpu.results;
        std::vector<std::uint8_t>& bytes = values.bytes[static_cast<std::size_t>(testing::Array::kValues)];
        std::ranges::fill(bytes, std::uint8_t{0});
        cuda::backend().dequantize(cpu.results.operand(), bytes.data(), dtype);
        EXPECT_EQ(first_difference(values, cpu.results), "") << format.name << " block " << block;
      }
    }
  }
}

}  // namespace
}  // namespace ufp4
