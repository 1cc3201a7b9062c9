// A shard that knows its offsets has the bits of the whole: codes, scales and the random bits of stochastic rounding.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <random>
#include <thread>
#include <vector>

#include "backend/every_backend.h"
#include "one_level_formats.h"
#include "ufp4/error.h"

namespace ufp4 {
namespace {

using testing::Matrix;
using testing::quantize;
using testing::Results;
using testing::task_of;

UFP4_EVERY_BACKEND(Shard);

constexpr std::int64_t kRows = 160;  // a block of any size fits, and some are cut
constexpr std::int64_t kColumns = 288;

Matrix random_matrix(unsigned seed, std::int64_t rows, std::int64_t columns) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  Matrix m(rows, columns);
  m.fill([&] { return normal(random); });
  return m;
}

// The shard of rows and columns of the operand against the same part of the whole.
void expect_part(const Results& whole, const Results& part, std::int64_t row, std::int64_t column, std::int64_t block) {
  for (std::int64_t r = 0; r < part.shape.rows; ++r) {
    for (std::int64_t c = 0; c < part.shape.columns; ++c) {
      ASSERT_EQ(part.code(r, c), whole.code(row + r, column + c)) << "[" << row + r << ", " << column + c << "]";
      ASSERT_EQ(std::bit_cast<std::uint32_t>(part.value(r, c)),
                std::bit_cast<std::uint32_t>(whole.value(row + r, column + c)));
      ASSERT_EQ(part.scale(r, c / block), whole.scale(row + r, (column + c) / block));
    }
  }
}

TEST_P(Shard, HasTheBitsOfTheWhole) {
  std::mt19937 random(4);
  const Matrix m = random_matrix(11, kRows, kColumns);
  for (const BlockFormat& format : one_level_formats()) {
    for (const Axis axis : {Axis::kRow, Axis::kColumn}) {
      for (const int hadamard : {0, 16, 32}) {
        QuantizeTask task = task_of(format, Rounding::kStochastic, hadamard, axis);
        task.place.row_offset = 1000;
        task.place.column_offset = 4096;
        const Results whole = quantize(backend(), m.view(), task);
        const std::int64_t unit = std::max(format.block, hadamard);
        for (int trial = 0; trial < 4; ++trial) {
          // In the operand's coordinates: any rows, columns cut between transforms.
          const std::int64_t operand_rows = axis == Axis::kRow ? kRows : kColumns;
          const std::int64_t units = (axis == Axis::kRow ? kColumns : kRows) / unit;
          const std::int64_t row = static_cast<std::int64_t>(random()) % operand_rows;
          const std::int64_t rows = 1 + static_cast<std::int64_t>(random()) % (operand_rows - row);
          const std::int64_t first = static_cast<std::int64_t>(random()) % units;
          const std::int64_t count = 1 + static_cast<std::int64_t>(random()) % (units - first);
          QuantizeTask part = task;
          part.place.row_offset += static_cast<std::uint32_t>(row);
          part.place.column_offset += static_cast<std::uint32_t>(first * unit);
          const ConstMatrix view = axis == Axis::kRow ? m.view(row, first * unit, rows, count * unit)
                                                      : m.view(first * unit, row, count * unit, rows);
          expect_part(whole, quantize(backend(), view, part), row, first * unit, format.block);
        }
      }
    }
  }
}

// Threads share a matrix: every range of rows writes its part of both orientations, and no other (the thread sanitizer
// watches).
TEST_P(Shard, RangesOfRowsGiveTheWholeTogether) {
  for (const std::int64_t rows : {3, 64, 330}) {
    const Matrix m = random_matrix(14, rows, kColumns);
    for (const char* format : {"e1m2", "int4_full", "nvfp4"}) {
      const QuantizeTask row = task_of(format, Rounding::kStochastic, 16, Axis::kRow);
      const QuantizeTask column = task_of(format, Rounding::kStochastic, 32, Axis::kColumn);
      Results in_rows(m.view(), row);
      Results in_columns(m.view(), column);
      const std::array<QuantizeTask, 2> tasks{in_rows.writing(), in_columns.writing()};
      {
        std::vector<std::jthread> threads;
        for (const RowRange range : {RowRange{32, 64}, {288, rows}, {64, 288}, {0, 32}}) {
          const RowRange part{std::min(range.first, rows), std::min(range.last, rows)};
          if (part.first >= part.last) continue;
          threads.emplace_back([&, part] { backend().quantize_rows(m.view(), tasks, part); });
        }
      }
      EXPECT_EQ(first_difference(in_rows, quantize(backend(), m.view(), row)), "") << format << ", rows, " << rows;
      EXPECT_EQ(first_difference(in_columns, quantize(backend(), m.view(), column)), "")
          << format << ", columns, " << rows;
      EXPECT_GT(in_rows.outer_scales()[0], 0);
    }
  }
}

TEST_P(Shard, ARangeThatCutsABlockOrLeavesTheMatrixIsRefused) {
  const Matrix m = random_matrix(15, 100, 32);
  Results out(m.view(), task_of("e1m2", Rounding::kNearest, 32, Axis::kColumn));
  const QuantizeTask task = out.writing();
  for (const RowRange range : {RowRange{16, 100}, {0, 80}, {0, 101}, {-32, 32}, {64, 32}}) {
    EXPECT_THROW(backend().quantize_rows(m.view(), {&task, 1}, range), InputError) << range.first;
  }
  EXPECT_NO_THROW(backend().quantize_rows(m.view(), {&task, 1}, {96, 100}));
}

// Offsets that are no multiple of the eight draws of a Philox call, and counters that wrap around at 2^32.
TEST_P(Shard, OddOffsetsAreAsTheReferenceHasThem) {
  const Matrix m = random_matrix(12, 5, 80);
  for (const Axis axis : {Axis::kRow, Axis::kColumn}) {
    for (const std::uint32_t offset : {1u, 3u, 7u, 8u, 9u, 12u, 1001u, 0xFFFFFFFFu, 0xFFFFFFF0u, 0xFFFFFFC1u}) {
      QuantizeTask task = task_of("e1m2", Rounding::kStochastic, 16, axis);
      task.place.column_offset = offset;
      task.place.row_offset = offset;
      const Results expected = quantize(find_backend("scalar"), m.view(), task);
      ASSERT_EQ(first_difference(quantize(backend(), m.view(), task), expected), "") << "offset " << offset;
    }
  }
}

// Every part of the counter and the key matters.
TEST_P(Shard, EveryPartOfTheCounterChangesTheDraws) {
  const Matrix m = random_matrix(13, 16, 256);
  const QuantizeTask task = task_of("e1m2", Rounding::kStochastic);
  const Results base = quantize(backend(), m.view(), task);
  std::array<Place, 6> others;
  others.fill(task.place);
  others[0].seed += 1;
  others[1].seed += std::uint64_t{1} << 32;
  others[2].step += 1;
  others[3].stream += 1;
  others[4].row_offset += 1;
  others[5].column_offset += 8;
  for (std::size_t i = 0; i < others.size(); ++i) {
    QuantizeTask other = task;
    other.place = others[i];
    EXPECT_FALSE(std::ranges::equal(quantize(backend(), m.view(), other).codes(), base.codes())) << i;
  }
}

}  // namespace
}  // namespace ufp4
