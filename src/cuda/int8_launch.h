// How an INT8 product runs on a GPU: by which kernel, in tiles of which size, in which order. Functions of the product
// and the size of the device alone, apart from the launches, so that they are tested without a device.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "numerics/int8_product.h"

namespace ufp4::cuda {

inline constexpr int kInt8TileRows = 128;
inline constexpr int kInt8Depth = 128;  // bytes of a row in a stage

// What the two thread blocks of a cluster read together: their tiles lie side by side, and one copy serves both.
enum class Int8Share : std::uint8_t { kNothing, kA, kB };

struct Int8Launch {
  bool whole = false;  // sums are expected to have one piece
  int columns = 128;   // of a tile: 128, of whole sums 256, otherwise 192
  Int8Share share = Int8Share::kNothing;
  bool in_turn = false;  // whether the two warpgroups that multiply convert and store one after the other
  int band = 16;         // rows of tiles, or of pairs of them, that are worked on from the first column to the last

  bool operator==(const Int8Launch&) const = default;
};

// "128x192 pieces, b shared": for tables and messages.
std::string describe(const Int8Launch& launch);

// Thread blocks that share something, and what they make together.
constexpr int cluster_of(const Int8Launch& launch) { return launch.share == Int8Share::kNothing ? 1 : 2; }
constexpr int unit_rows(const Int8Launch& launch) { return kInt8TileRows * (launch.share == Int8Share::kB ? 2 : 1); }
constexpr int unit_columns(const Int8Launch& launch) {
  return launch.columns * (launch.share == Int8Share::kA ? 2 : 1);
}

// What fills the shared memory of a multiprocessor.
constexpr int stages_of(int columns) { return columns == 128 ? 6 : columns == 192 ? 5 : 4; }

// All that can compute it, whose bits are the same.
std::vector<Int8Launch> int8_launches(const Int8Product& product);

// The one that should take the shortest.
Int8Launch int8_launch(const Int8Product& product, std::int64_t multiprocessors);

}  // namespace ufp4::cuda
