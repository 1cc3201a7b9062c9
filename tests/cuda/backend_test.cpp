// The backend "cuda": host memory in, host memory out.
#include <gtest/gtest.h>

#include <algorithm>

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
  struct Case {
    const char* format;
    OuterScale each;
  };
  const testing::HostMatrix in = testing::hostile_matrix(DType::kBF16, 300, 262144 + 24, 8, 0, 9);
  for (const auto& [format, each] :
       {Case{"e1m2", OuterScale::kTensor}, Case{"nvfp4", OuterScale::kTensor}, Case{"hif4", OuterScale::kTensor},
        Case{"int4_p2", OuterScale::kRow}, Case{"int4_p2", OuterScale::k1x128}, Case{"int4_p2", OuterScale::k128x128},
        Case{"int4_i4", OuterScale::k1x512}, Case{"int4_i4", OuterScale::kRow}}) {
    for (const Axis axis : {Axis::kRow, Axis::kColumn}) {
      testing::Request request{{&find_format(format), 0, Rounding::kStochastic, make_hadamard(16, 1)},
                               {axis, 1, 2, 3, 4, 16}};
      request.spec.outer.each = each;
      const testing::Results cpu = quantize_on_cpu(in, request, DType::kBF16);
      const BlockFormat& of = *request.spec.format;
      testing::Results gpu = cpu;
      for (auto* bytes : {&gpu.codes, &gpu.scales, &gpu.dequantized, &gpu.exact, &gpu.packed_scales, &gpu.selectors,
                          &gpu.outer_scales}) {
        std::fill(bytes->begin(), bytes->end(), std::uint8_t{0xA5});
      }
      gpu.amax = 0;
      gpu.clipped = 0;
      QuantizeTask task{request.spec, request.place, {}, nullptr};
      task.out.codes = gpu.codes.data();
      task.out.scales = reinterpret_cast<float*>(gpu.scales.data());
      task.out.dequantized = gpu.dequantized.data();
      task.out.packed_scales = gpu.packed_scales.data();
      if (of.selector_block != 0) task.out.selectors = gpu.selectors.data();
      task.out.outer_scales = reinterpret_cast<float*>(gpu.outer_scales.data());
      if (of.exact == ExactValue::kInt8) task.out.int8 = reinterpret_cast<std::int8_t*>(gpu.exact.data());
      if (of.has_window()) {
        task.out.e4m3 = gpu.exact.data();
        task.out.amax = &gpu.amax;
        task.out.clipped = &gpu.clipped;
      }
      cuda::backend().quantize(in.view(), {&task, 1});  // finds the magnitudes too
      EXPECT_EQ("", difference(gpu, cpu, in, request));
      // The whole in two parts.
      std::fill(gpu.codes.begin(), gpu.codes.end(), std::uint8_t{0});
      gpu.clipped = 0;
      cuda::backend().quantize_rows(in.view(), {&task, 1}, {0, 128});
      cuda::backend().quantize_rows(in.view(), {&task, 1}, {128, 300});
      EXPECT_EQ("", difference(gpu, cpu, in, request));

      const QuantizedShape shape = quantized_shape(in.rows, in.columns, request.spec, axis);
      ConstQuantized packed{&of, 0, shape.rows, shape.columns, cpu.codes.data()};
      packed.packed_scales = cpu.packed_scales.data();
      packed.outer = each;
      packed.outer_scales = reinterpret_cast<const float*>(cpu.outer_scales.data());
      std::vector<std::uint8_t> values(cpu.dequantized.size());
      cuda::backend().dequantize(packed, values.data(), DType::kBF16);
      EXPECT_TRUE(values == cpu.dequantized) << describe(in, request);
      if (HasFailure()) return;
    }
  }
}

TEST_F(CudaBackendOnDevice, DequantizesEveryFormatAndBlock) {
  const testing::HostMatrix in = testing::hostile_matrix(DType::kF32, 45, 300, 0, 0, 2);
  for (const BlockFormat& format : formats()) {
    for (const int block : kBlockSizes) {
      if (format.selector_block != 0 && block != format.block) continue;
      for (const DType dtype : {DType::kF32, DType::kBF16}) {
        const testing::Request request{{&format, block}, {}};
        const testing::Results cpu = quantize_on_cpu(in, request, dtype);
        const QuantizedShape shape = quantized_shape(in.rows, in.columns, request.spec, Axis::kRow);
        ConstQuantized from{&format,          block,
                            shape.rows,       shape.columns,
                            cpu.codes.data(), reinterpret_cast<const float*>(cpu.scales.data())};
        if (format.selector_block != 0) from.selectors = cpu.selectors.data();
        from.outer = request.spec.outer_each();
        from.outer_scales = reinterpret_cast<const float*>(cpu.outer_scales.data());
        std::vector<std::uint8_t> values(cpu.dequantized.size());
        cuda::backend().dequantize(from, values.data(), dtype);
        EXPECT_TRUE(values == cpu.dequantized) << format.name << " block " << block << " " << name_of(dtype);
      }
    }
  }
}

}  // namespace
}  // namespace ufp4
