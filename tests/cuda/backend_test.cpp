// The backend "cuda": host memory in, host memory out.
#include <gtest/gtest.h>

#include "cuda/backend.h"
#include "cuda/device_case.h"
#include "cuda/quantize.h"
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
  const testing::HostMatrix in = testing::hostile_matrix(DType::kBF16, 300, 262144 + 24, 8, 0, 9);
  for (const Axis axis : {Axis::kRow, Axis::kColumn}) {
    QuantizeSpec spec{&find_format("e1m2"), 0, axis, Rounding::kStochastic, make_hadamard(16, 1), {1, 2, 3, 4, 5}};
    spec.random.column_offset = 16;
    const testing::Results cpu = quantize_on_cpu(in, spec, DType::kBF16);
    const QuantizedShape shape = quantized_shape(in.rows, in.columns, spec);
    testing::Results gpu{std::vector<std::uint8_t>(cpu.codes.size()), std::vector<std::uint8_t>(cpu.scales.size()),
                         std::vector<std::uint8_t>(cpu.dequantized.size()), 0};
    const QuantizeTask task{spec,
                            {gpu.codes.data(), reinterpret_cast<float*>(gpu.scales.data()), gpu.dequantized.data(),
                             DType::kBF16, &gpu.global_scale}};
    cuda::backend().quantize(in.view(), {&task, 1});
    EXPECT_EQ("", difference(gpu, cpu, in, spec));

    std::vector<std::uint8_t> values(cpu.dequantized.size());
    cuda::backend().dequantize({spec.format, 0, shape.rows, shape.columns, cpu.codes.data(),
                                reinterpret_cast<const float*>(cpu.scales.data())},
                               values.data(), DType::kBF16);
    EXPECT_TRUE(values == cpu.dequantized);
  }
}

TEST_F(CudaBackendOnDevice, DequantizesEveryFormatAndBlock) {
  const testing::HostMatrix in = testing::hostile_matrix(DType::kF32, 45, 300, 0, 0, 2);
  for (const BlockFormat& format : formats()) {
    if (format.rule != ScaleRule::kAmax) continue;  // the reference does those
    for (const int block : kBlockSizes) {
      for (const DType dtype : {DType::kF32, DType::kBF16}) {
        const QuantizeSpec spec{&format, block, Axis::kRow, Rounding::kNearest, {}, {}};
        const testing::Results cpu = quantize_on_cpu(in, spec, dtype);
        const QuantizedShape shape = quantized_shape(in.rows, in.columns, spec);
        std::vector<std::uint8_t> values(cpu.dequantized.size());
        cuda::backend().dequantize({&format, block, shape.rows, shape.columns, cpu.codes.data(),
                                    reinterpret_cast<const float*>(cpu.scales.data())},
                                   values.data(), dtype);
        EXPECT_TRUE(values == cpu.dequantized) << format.name << " block " << block << " " << name_of(dtype);
      }
    }
  }
}

}  // namespace
}  // namespace ufp4
