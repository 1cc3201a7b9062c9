// Rows that were gathered and have their numbers draw the bits that they have in the whole.
#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <vector>

#include "backend/every_backend.h"

namespace ufp4 {
namespace {

using testing::describe;
using testing::Matrix;
using testing::quantize;
using testing::Results;
using testing::Values;

constexpr std::int64_t kRows = 70;
constexpr std::int64_t kColumns = 300;  // no whole number of blocks
const std::vector<std::uint32_t> kPicked{5, 3, 69, 0, 3, 17, 18, 68, 44, 5, 12, 1, 2, 33, 60, 61, 62, 20, 7};

// A whole operand, some of its rows as an operand of their own, and their numbers.
struct Gathered {
  Matrix whole;
  Matrix part;
  std::vector<std::uint32_t> numbers;
  std::vector<float> whole_amax;
  std::vector<float> part_amax;
};

QuantizeTask task_at(const BlockFormat& format, Rounding rounding, int hadamard, Axis axis) {
  QuantizeTask task = testing::task_of(format, rounding, hadamard, axis);
  task.place.row_offset = 0xFFFFFFE0u;  // the numbers pass 2^32
  task.place.column_offset = 4099;
  return task;
}

Gathered gather(const QuantizeTask& task, DType dtype) {
  Gathered all{testing::make_matrix(kRows, kColumns, dtype, Values::kUneven, 8, {.padding = 3}), {}, {}, {}, {}};
  all.part = gathered(all.whole, kPicked);
  if (task.place.axis == Axis::kColumn) {
    all.whole = transposed(all.whole);
    all.part = transposed(all.part);
  }
  for (const std::uint32_t row : kPicked) all.numbers.push_back(row + task.place.row_offset);
  if (!task.spec.format->has_outer_scale()) return all;
  // Second-level scales are those of the whole: one for all rows, or one a row.
  const bool one = task.spec.outer_each() == OuterScale::kTensor;
  all.whole_amax.resize(one ? 1 : kRows);
  const ConstMatrix view = all.whole.view();
  find_backend("scalar").raise_outer_amax(view, task.spec, task.place, {0, view.rows}, all.whole_amax.data());
  for (const std::uint32_t row : kPicked) all.part_amax.push_back(all.whole_amax[one ? 0 : row]);
  return all;
}

// The task of the gathered rows.
QuantizeTask of_part(const QuantizeTask& task, const Gathered& all) {
  QuantizeTask part = task;
  part.place.row_offset = 77;  // not read where rows have numbers
  part.place.row_numbers = all.numbers.data();
  part.outer_amax = all.part_amax.empty() ? nullptr : all.part_amax.data();
  return part;
}

void expect_rows(const Results& part, const Results& whole, const char* what) {
  const std::int64_t block = part.task.spec.block_size();
  ASSERT_EQ(part.shape.columns, whole.shape.columns);
  for (std::int64_t r = 0; r < part.shape.rows; ++r) {
    const std::int64_t from = kPicked[static_cast<std::size_t>(r)];
    for (std::int64_t c = 0; c < part.shape.columns; ++c) {
      ASSERT_EQ(part.code(r, c), whole.code(from, c)) << what << " [" << r << ", " << c << "]";
      ASSERT_EQ(std::bit_cast<std::uint32_t>(part.value(r, c)), std::bit_cast<std::uint32_t>(whole.value(from, c)))
          << what << " [" << r << ", " << c << "]";
      ASSERT_EQ(part.scale(r, c / block), whole.scale(from, c / block)) << what << " [" << r << ", " << c << "]";
    }
  }
}

class RowNumbers : public EveryBackend {
 protected:
  void expect_gathered_rows(const QuantizeTask& task, DType dtype) const {
    const Gathered all = gather(task, dtype);
    QuantizeTask of_whole = task;
    of_whole.outer_amax = all.whole_amax.empty() ? nullptr : all.whole_amax.data();
    const QuantizeTask part = of_part(task, all);
    SCOPED_TRACE(describe(all.part.view(), part));
    const Results whole = quantize(backend(), all.whole.view(), of_whole);
    const Results found = quantize(backend(), all.part.view(), part);
    expect_rows(found, whole, "of the whole");
    const Results reference = quantize(find_backend("scalar"), all.part.view(), part);
    ASSERT_EQ(first_difference(found, reference), "");
  }
};

INSTANTIATE_TEST_SUITE_P(, RowNumbers, ::testing::ValuesIn(available_backends()), name_of_case);

TEST_P(RowNumbers, EveryFormatRoundingAndTransform) {
  for (const BlockFormat& format : formats()) {
    for (const Rounding rounding : testing::kRoundings) {
      for (const int hadamard : {0, 16, 64}) {
        for (const Axis axis : testing::kAxes) {
          expect_gathered_rows(task_at(format, rounding, hadamard, axis), DType::kBF16);
          if (HasFatalFailure()) return;
        }
      }
    }
  }
}

TEST_P(RowNumbers, ScalesOfRowsAndEveryInputType) {
  for (const DType dtype : testing::kTypes) {
    for (const Axis axis : testing::kAxes) {
      QuantizeTask task = task_at(find_format("int4_p2"), Rounding::kStochastic, 16, axis);
      task.spec.outer.each = OuterScale::kRow;
      expect_gathered_rows(task, dtype);
      if (HasFatalFailure()) return;
    }
  }
}

// The numbers are those of all rows, whichever of them a thread works on.
TEST_P(RowNumbers, RangesOfRowsGiveTheWholeTogether) {
  for (const Axis axis : testing::kAxes) {
    const QuantizeTask task = task_at(find_format("e1m2"), Rounding::kStochastic, 16, axis);
    const Gathered all = gather(task, DType::kF32);
    const ConstMatrix view = all.part.view();
    Results found(view, of_part(task, all));
    const QuantizeTask writing = found.writing();
    backend().quantize_rows(view, {&writing, 1}, {16, view.rows});
    backend().quantize_rows(view, {&writing, 1}, {0, 16});
    EXPECT_EQ(first_difference(found, quantize(backend(), view, of_part(task, all))), "") << name_of(axis);
  }
}

// Rows with numbers one after another are rows with an offset; two tasks of one call may have numbers of their own.
TEST_P(RowNumbers, NumbersInOrderAreAnOffset) {
  const Matrix m = testing::make_matrix(40, 100, DType::kF32, Values::kNormal, 3);
  std::vector<std::uint32_t> rows(40);
  std::vector<std::uint32_t> columns(100);
  for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<std::uint32_t>(i) + 1234;
  for (std::size_t i = 0; i < columns.size(); ++i) columns[i] = static_cast<std::uint32_t>(i) + 55;
  QuantizeTask row = testing::task_of("e1m2", Rounding::kStochastic, 16, Axis::kRow);
  QuantizeTask column = testing::task_of("e1m2", Rounding::kStochastic, 32, Axis::kColumn);
  row.place.row_offset = 1234;
  column.place.row_offset = 55;
  const Results rows_expected = quantize(backend(), m.view(), row);
  const Results columns_expected = quantize(backend(), m.view(), column);
  row.place.row_numbers = rows.data();
  column.place.row_numbers = columns.data();
  Results in_rows(m.view(), row);
  Results in_columns(m.view(), column);
  const std::array tasks{in_rows.writing(), in_columns.writing()};
  backend().quantize(m.view(), tasks);
  EXPECT_EQ(first_difference(in_rows, rows_expected), "");
  EXPECT_EQ(first_difference(in_columns, columns_expected), "");
}

}  // namespace
}  // namespace ufp4
