#include <gtest/gtest.h>

#include <algorithm>

#include "ufp4/error.h"
#include "ufp4/format.h"
#include "ufp4/quantize.h"

namespace ufp4 {
namespace {

OperandSpec spec_of(int block, int hadamard) {
  OperandSpec spec;
  spec.format = &find_format("e1m2");
  spec.block = block;
  spec.hadamard.size = hadamard;
  return spec;
}

TEST(Shape, PadsToBlockAndTransform) {
  for (const int block : kBlockSizes) {
    for (const int hadamard : {0, 16, 32, 64, 128}) {
      for (const int columns : {0, 1, 15, 16, 17, 127, 128, 129, 1000}) {
        const QuantizedShape shape = quantized_shape(3, columns, spec_of(block, hadamard), Axis::kRow);
        EXPECT_EQ(shape.rows, 3);
        EXPECT_EQ(shape.valid_columns, columns);
        EXPECT_EQ(shape.columns % block, 0);
        EXPECT_EQ(shape.columns % std::max(hadamard, 1), 0);
        EXPECT_GE(shape.columns, columns);
        EXPECT_LT(shape.columns - columns, std::max(block, hadamard)) << "no more padding than needed";
        EXPECT_EQ(shape.scales_per_row, shape.columns / block);
        EXPECT_EQ(shape.codes_per_row(), shape.columns / 2);
      }
    }
  }
}

TEST(Shape, ColumnIsTheTransposed) {
  const QuantizedShape shape = quantized_shape(17, 5, spec_of(0, 0), Axis::kColumn);
  EXPECT_EQ(shape.rows, 5);
  EXPECT_EQ(shape.columns, 32);
  EXPECT_EQ(shape.valid_columns, 17);
}

TEST(Shape, RefusesWhatDoesNotFit) {
  EXPECT_THROW(quantized_shape(1, 1, OperandSpec{}, Axis::kRow), InputError);
  EXPECT_THROW(quantized_shape(1, 1, spec_of(8, 0), Axis::kRow), InputError);
  EXPECT_THROW(quantized_shape(1, 1, spec_of(-16, 0), Axis::kRow), InputError);
  EXPECT_THROW(quantized_shape(1, 1, spec_of(0, 8), Axis::kRow), InputError);
  EXPECT_THROW(quantized_shape(-1, 1, spec_of(0, 0), Axis::kRow), InputError);
  EXPECT_THROW(quantized_shape(1, -1, spec_of(0, 0), Axis::kRow), InputError);
  EXPECT_THROW(quantized_shape(std::int64_t{1} << 33, 1, spec_of(0, 0), Axis::kRow), InputError);
  EXPECT_THROW(quantized_shape(1, std::int64_t{1} << 33, spec_of(0, 0), Axis::kRow), InputError);
}

}  // namespace
}  // namespace ufp4
