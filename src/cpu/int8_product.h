// The product of INT8 operands (numerics/int8_product.h says what it is) in tiles that any threads may compute: the
// bits of the reference for every instruction set and any tiles.
#pragma once

#include <cstdint>
#include <span>

#include "cpu/product.h"
#include "numerics/int8_product.h"

namespace ufp4::cpu {

// Tiles that are large enough for the kernels to be fast.
ProductTiles split_int8_product(std::int64_t m, std::int64_t n);

// The kernel of one instruction set.
struct Int8ProductKernel {
  const char* name = nullptr;
  bool available = false;  // on this machine
  // Computes one tile of the result of a product without groups (groups_of), whatever the tile's size, and touches no
  // other element of it. Takes 400 KiB of stack.
  void (*multiply)(const Int8Product& product, const ProductTile& tile) = nullptr;
};

// Of every instruction set that was compiled, the fastest first.
std::span<const Int8ProductKernel> int8_product_kernels();

// The first one that this machine can run.
const Int8ProductKernel& best_int8_product_kernel();

}  // namespace ufp4::cpu
