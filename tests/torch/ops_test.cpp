// The operators against the scalar reference.
#include "torch/ops.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/randn.h>
#include <gtest/gtest.h>

#include "numerics/reference.h"

namespace ufp4 {
namespace {

struct Case {
  std::int64_t rows;
  std::int64_t columns;
  const char* format;
  int hadamard;
  Rounding rounding;
  Axis axis;
};

// Codes and scales as the reference makes them, in tensors.
std::tuple<at::Tensor, at::Tensor> reference_result(const at::Tensor& x, const Case& c, const ops::RandomArgs& random) {
  QuantizeTask task;
  task.spec.format = &find_format(c.format);
  task.spec.axis = c.axis;
  task.spec.rounding = c.rounding;
  if (c.hadamard != 0) task.spec.hadamard = make_hadamard(c.hadamard, random.hadamard_seed);
  const bool row = c.axis == Axis::kRow;
  task.spec.random = {random.seed, random.step, 5, row ? random.row_offset : random.column_offset,
                      row ? random.column_offset : random.row_offset};
  const QuantizedShape shape = quantized_shape(c.rows, c.columns, task.spec);
  at::Tensor codes = at::empty({shape.rows, shape.codes_per_row()}, at::kByte);
  at::Tensor scales = at::empty({shape.rows, shape.scales_per_row}, at::kFloat);
  task.out.codes = codes.mutable_data_ptr<std::uint8_t>();
  task.out.scales = scales.mutable_data_ptr<float>();
  reference::quantize({x.const_data_ptr(), DType::kBF16, c.rows, c.columns, c.columns}, task);
  return {codes, scales};
}

TEST(Ops, GiveTheBitsOfTheReferenceForAnyNumberOfThreads) {
  const ops::RandomArgs random{11, (std::uint64_t{1} << 63) + 12, 3, 40, 8};
  const int threads = at::get_num_threads();
  for (const Case& c : {Case{3, 5, "e1m2", 0, Rounding::kNearest, Axis::kRow},
                        Case{200, 150, "e1m2", 16, Rounding::kStochastic, Axis::kRow},
                        Case{200, 150, "int4_full", 32, Rounding::kStochastic, Axis::kColumn},
                        Case{1, 20000, "e2m1", 128, Rounding::kNearest, Axis::kRow},
                        Case{20000, 1, "e2m1", 0, Rounding::kStochastic, Axis::kColumn}}) {
    const at::Tensor x = at::randn({c.rows, c.columns}).to(at::kBFloat16);
    const auto [codes, scales] = reference_result(x, c, random);
    for (const int count : {1, 2, 5}) {
      at::set_num_threads(count);
      const auto [found_codes, found_scales] =
          ops::quantize(x, {&find_format(c.format), 0, c.hadamard, c.rounding, 5}, c.axis, random);
      EXPECT_TRUE(at::equal(codes, found_codes)) << c.format << " " << c.rows << " threads " << count;
      EXPECT_TRUE(at::equal(scales, found_scales)) << c.format << " " << c.rows << " threads " << count;
    }
    at::set_num_threads(threads);
  }
}

TEST(Ops, EmptyMatricesHaveTheirShapes) {
  const ops::OperandArgs args{&find_format("e1m2"), 0, 0, Rounding::kNearest, 0};
  const at::Tensor x = at::empty({0, 20}, at::kBFloat16);
  EXPECT_EQ(std::get<0>(ops::quantize(x, args, Axis::kRow, {})).sizes(), at::IntArrayRef({0, 16}));
  EXPECT_EQ(std::get<0>(ops::quantize(x, args, Axis::kColumn, {})).sizes(), at::IntArrayRef({20, 0}));
}

}  // namespace
}  // namespace ufp4
