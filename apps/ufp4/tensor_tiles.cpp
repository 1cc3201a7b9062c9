#include "tensor_tiles.h"
#include "ufp4/format.h"

#include <algorithm>

namespace ufp4::app {

std::vector<Tile> make_tiles(const QuantizedShape& operand, const OperandSpec& spec, Axis axis) {
  constexpr std::int64_t kElements = std::int64_t{1} << 20;
  constexpr std::int64_t kLargestBlock = kBlockSizes.back();
  std::vector<Tile> tiles;
  if (operand.rows == 0 || operand.valid_columns == 0) return tiles;

  const bool squares = spec.outer_each() == OuterScale::k128x128;
  const std::int64_t row_unit = squares ? kLargestBlock : 1;
  const std::int64_t least_rows = squares ? kLargestBlock : axis == Axis::kColumn ? 32 : 1;
  const std::int64_t rows =
      std::min(operand.rows, std::max(least_rows, kElements / operand.columns / row_unit * row_unit));
  const std::int64_t column_unit = std::max(kLargestBlock, columns_of(spec.outer_each()));
  const std::int64_t fitting = std::max(column_unit, kElements / rows / column_unit * column_unit);
  const std::int64_t columns =
      spec.outer_each() == OuterScale::kRow ? operand.valid_columns : std::min(operand.valid_columns, fitting);
  for (std::int64_t r = 0; r < operand.rows; r += rows) {
    for (std::int64_t c = 0; c < operand.valid_columns; c += columns) {
      tiles.push_back({r, c, std::min(rows, operand.rows - r), std::min(columns, operand.valid_columns - c)});
    }
  }
  return tiles;
}

}  // namespace ufp4::app
