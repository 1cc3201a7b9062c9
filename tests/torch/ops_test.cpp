// The operators against the scalar reference.
#include "torch/ops.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/randn.h>
#include <gtest/gtest.h>

#include "gpu_usable.h"
#include "numerics/reference.h"
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
  OuterScale outer = OuterScale::kTensor;
};

ops::OperandArgs args_of(const Case& c) { return {&find_format(c.format), 0, c.hadamard, c.rounding, 5, c.outer}; }

// The operand as the reference makes it, in tensors.
ops::PackedOperand reference_result(const at::Tensor& x, const Case& c, const ops::RandomArgs& random) {
  QuantizeTask task;
  task.spec.format = &find_format(c.format);
  task.spec.axis = c.axis;
  task.spec.rounding = c.rounding;
  task.spec.outer = c.outer;
  if (c.hadamard != 0) task.spec.hadamard = make_hadamard(c.hadamard, random.hadamard_seed);
  const bool row = c.axis == Axis::kRow;
  task.spec.random = {random.seed, random.step, 5, row ? random.row_offset : random.column_offset,
                      row ? random.column_offset : random.row_offset};
  const QuantizedShape shape = quantized_shape(c.rows, c.columns, task.spec);
  const OuterShape outer = outer_shape(shape, c.outer);
  const BlockFormat& format = *task.spec.format;
  ops::PackedOperand result;
  result.codes = at::empty({shape.rows, shape.codes_per_row()}, at::kByte);
  task.out.codes = result.codes.mutable_data_ptr<std::uint8_t>();
  if (format.scale == ScaleEncoding::kFp32) {
    result.scales = at::empty({shape.rows, shape.scales_per_row}, at::kFloat);
    task.out.scales = result.scales.mutable_data_ptr<float>();
  } else {
    result.scales = at::empty({shape.rows, shape.scales_per_row * format.packed_scale_bytes()}, at::kByte);
    task.out.packed_scales = result.scales.mutable_data_ptr<std::uint8_t>();
  }
  if (format.has_outer_scale()) {
    result.outer_scales = at::empty({outer.rows, outer.columns}, at::kFloat);
    task.out.outer_scales = result.outer_scales.mutable_data_ptr<float>();
  } else {
    result.outer_scales = at::empty({0, 0}, at::kFloat);
  }
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
  for (const BlockFormat& format : formats()) {
    if (format.rule == ScaleRule::kAmax) continue;
    const char* name = format.name.data();  // of a literal
    list.push_back({200, 150, name, 16, Rounding::kStochastic, Axis::kRow});
    list.push_back({200, 150, name, 0, Rounding::kNearest, Axis::kColumn});
  }
  return list;
}

TEST(Ops, GiveTheBitsOfTheReferenceForAnyNumberOfThreads) {
  const ops::RandomArgs random{11, (std::uint64_t{1} << 63) + 12, 3, 40, 8};
  const int threads = at::get_num_threads();
  for (const Case& c : cases()) {
    const at::Tensor x = at::randn({c.rows, c.columns}).to(at::kBFloat16);
    const ops::PackedOperand expected = reference_result(x, c, random);
    for (const int count : {1, 2, 5}) {
      at::set_num_threads(count);
      const ops::PackedOperand found = ops::quantize(x, args_of(c), c.axis, random);
      const std::string what = std::string(c.format) + " " + std::to_string(c.rows) + " " +
                               std::string(name_of(c.outer)) + " threads " + std::to_string(count);
      EXPECT_TRUE(at::equal(expected.codes, found.codes)) << what;
      EXPECT_TRUE(at::equal(expected.scales, found.scales)) << what;
      EXPECT_TRUE(at::equal(expected.outer_scales, found.outer_scales)) << what;
      EXPECT_TRUE(
          at::equal(ops::dequantize(found, args_of(c)), ops::quantize_dequantize(x, args_of(c), c.axis, random)))
          << what;
    }
    at::set_num_threads(threads);
  }
}

// With the number of the step in its memory, as a recorded training step has it.
TEST(Ops, AGpuMakesWhatTheCpuMakes) {
  if (!gpu_usable()) GTEST_SKIP() << "no GPU";
  const ops::RandomArgs random{11, (std::uint64_t{1} << 63) + 12, 3, 40, 8};
  ops::RandomArgs on_gpu = random;
  on_gpu.step = 0;
  on_gpu.step_tensor = at::full({1}, 3, at::TensorOptions().dtype(at::kInt).device(at::kCUDA));
  for (const char* format : {"e1m2", "int4_full", "e2m1"}) {
    for (const Rounding rounding : {Rounding::kNearest, Rounding::kStochastic}) {
      const at::Tensor x = at::randn({200, 152}).to(at::kBFloat16);
      const at::Tensor x_gpu = x.to(at::kCUDA);
      const ops::OperandArgs row{&find_format(format), 0, 16, rounding, 5};
      const ops::OperandArgs column{&find_format(format), 0, 16, rounding, 6};
      const std::string what = std::string(format) + (rounding == Rounding::kNearest ? ", rtne" : ", sr");
      for (const Axis axis : {Axis::kRow, Axis::kColumn}) {
        const ops::PackedOperand cpu = ops::quantize(x, row, axis, random);
        const ops::PackedOperand gpu = ops::quantize(x_gpu, row, axis, on_gpu);
        EXPECT_TRUE(at::equal(gpu.codes.cpu(), cpu.codes)) << what;
        EXPECT_TRUE(at::equal(gpu.scales.cpu(), cpu.scales)) << what;
        EXPECT_TRUE(at::equal(ops::quantize_dequantize(x_gpu, row, axis, on_gpu).cpu(),
                              ops::quantize_dequantize(x, row, axis, random)))
            << what;
      }
      for (const bool packed : {true, false}) {
        const ops::BothOrientations cpu = ops::quantize_both(x, row, column, random, packed);
        const ops::BothOrientations gpu = ops::quantize_both(x_gpu, row, column, on_gpu, packed);
        EXPECT_TRUE(at::equal(gpu.row.cpu(), cpu.row)) << what;
        EXPECT_TRUE(at::equal(gpu.column.codes.cpu(), cpu.column.codes)) << what;
        EXPECT_TRUE(!packed || at::equal(gpu.column.scales.cpu(), cpu.column.scales)) << what;
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
    const ops::PackedOperand found = ops::quantize(x, {&find_format(name)}, Axis::kRow, {});
    EXPECT_EQ(8.0 * static_cast<double>(found.codes.nbytes() + found.scales.nbytes()) / (128 * 256), bits) << name;
    EXPECT_LE(found.outer_scales.numel(), 1) << name;
  }
}

TEST(Ops, EmptyMatricesHaveTheirShapes) {
  const ops::OperandArgs args{&find_format("e1m2"), 0, 0, Rounding::kNearest, 0};
  const at::Tensor x = at::empty({0, 20}, at::kBFloat16);
  EXPECT_EQ(ops::quantize(x, args, Axis::kRow, {}).codes.sizes(), at::IntArrayRef({0, 16}));
  EXPECT_EQ(ops::quantize(x, args, Axis::kColumn, {}).codes.sizes(), at::IntArrayRef({20, 0}));
}

}  // namespace
}  // namespace ufp4
