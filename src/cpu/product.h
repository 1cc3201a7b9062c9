// The product of two BF16 matrices with an FP32 result, C = A B^T or C += A B^T, in tiles that any threads may compute.
//
// Rounding. An element of C begins as 0, or as what C holds where the product is added, and takes its k products one
// after another in the order of k. The product of two BF16 numbers is exact in FP32, and every sum is rounded to the
// nearest FP32 number. The order depends neither on the tiles nor on the threads, and adding the products of pieces of
// k, each but the last of even length, gives the bits of one product. All instruction sets give the same bits as long
// as operands, products and sums are 0 or normal FP32 numbers.
//
// The kernel on AVX512_BF16 takes subnormal operands as 0, and a sum that would be subnormal becomes 0: the instruction
// does so. The other kernels keep both. Infinities and NaN propagate everywhere, and sums beyond FP32 are infinities.
#pragma once

#include <cstdint>
#include <span>

namespace ufp4::cpu {

// A matrix of BF16 bits whose rows or columns are contracted.
struct ProductOperand {
  // Which axis of the stored matrix is contracted; the other one is a row of C for A, a column of C for B.
  enum class Contracted : std::uint8_t { kColumns, kRows };

  const std::uint16_t* data = nullptr;
  std::int64_t row_stride = 0;  // elements from one stored row to the next; those of a row lie side by side
  Contracted contracted = Contracted::kColumns;
};

// C [m, n], k products an element. A is stored as [m, k], or as [k, m] if its rows are contracted; B as [n, k] or
// [k, n]. C may not overlap the operands.
struct Product {
  std::int64_t m = 0;
  std::int64_t n = 0;
  std::int64_t k = 0;
  ProductOperand a;
  ProductOperand b;
  float* c = nullptr;
  std::int64_t c_row_stride = 0;  // in elements
  bool add = false;               // to what C holds
};

// Rows and columns of C, from `first_` up to `last_`, which is left out.
struct ProductTile {
  std::int64_t first_row = 0;
  std::int64_t last_row = 0;
  std::int64_t first_column = 0;
  std::int64_t last_column = 0;
};

// A matrix C cut into tiles of about the same size, row of tiles after row of tiles.
struct ProductTiles {
  std::int64_t m = 0;
  std::int64_t n = 0;
  std::int64_t rows = 1;     // of a tile; the last ones are cut off by the matrix
  std::int64_t columns = 1;  // likewise

  std::int64_t count() const;
  ProductTile operator[](std::int64_t index) const;
};

// Tiles that are large enough for the kernels to be fast.
ProductTiles split_product(std::int64_t m, std::int64_t n);

// The kernel of one instruction set.
struct ProductKernel {
  const char* name = nullptr;
  bool available = false;  // on this machine
  bool keeps_subnormals = true;
  // Computes one tile of C, whatever its size, and touches no other element of C. Takes 160 KiB of stack.
  void (*multiply)(const Product& product, const ProductTile& tile) = nullptr;
};

// Of every instruction set that was compiled, the fastest first.
std::span<const ProductKernel> product_kernels();

// The first one that this machine can run.
const ProductKernel& best_product_kernel();

}  // namespace ufp4::cpu
