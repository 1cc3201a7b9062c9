// How a large operand is cut into tiles that are quantized one by one, on any thread in any order: the random bits of
// stochastic rounding depend on the place in the operand only, and no block is ever cut.
#pragma once

#include <cstdint>
#include <vector>

#include "ufp4/quantize.h"

namespace ufp4::app {

// A rectangle of an operand, in the operand's coordinates (those of the transposed matrix for Axis::kColumn).
struct Tile {
  std::int64_t row = 0;
  std::int64_t column = 0;
  std::int64_t rows = 0;
  std::int64_t columns = 0;  // without padding
};

// Tiles of about 2^20 elements that cover an operand. With Axis::kColumn a tile is at least 32 rows high (if the
// operand is), so that it takes whole cache lines of the stored matrix. Values that share a second-level
// scale of a row or of 128 x 128 stay together.
std::vector<Tile> make_tiles(const QuantizedShape& operand, const OperandSpec& spec, Axis axis);

}  // namespace ufp4::app
