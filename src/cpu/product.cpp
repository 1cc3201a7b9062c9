#include "cpu/product.h"

#include <algorithm>
#include <vector>

#include "cpu/job.h"
#include "cpu/product_blocks.h"
#include "hwy/targets.h"

namespace ufp4::cpu {
namespace {

// Tiles end where blocks of sums do, whatever the instruction set: those have 8 rows, or 4, and 48, 24 or 12 columns.
constexpr std::int64_t kTileRowStep = 8;
constexpr std::int64_t kTileColumnStep = 48;
// What a tile packs of B serves all its rows, what it packs of A all its columns.
constexpr std::int64_t kMaxTileColumns = 480;

std::int64_t divide_up(std::int64_t n, std::int64_t by) { return (n + by - 1) / by; }

// The length of equal pieces of n, in whole steps, none longer than `longest`.
std::int64_t piece_of(std::int64_t n, std::int64_t longest, std::int64_t step) {
  if (n <= 0) return step;
  return divide_up(divide_up(n, divide_up(n, longest)), step) * step;
}

bool has_pair_instruction() {
#if HWY_ARCH_X86
  return __builtin_cpu_supports("avx512bf16") != 0;
#else
  return false;
#endif
}

std::vector<ProductKernel> list_kernels() {
  std::vector<ProductKernel> list;
  for (const Kernels& kernels : all_kernels()) {
    if (kernels.multiply_pairs == nullptr) continue;
    list.push_back({"AVX3_BF16", is_supported(kernels) && has_pair_instruction(), false, kernels.multiply_pairs});
  }
  for (const Kernels& kernels : all_kernels())
    list.push_back({kernels.name, is_supported(kernels), true, kernels.multiply});
  return list;
}

}  // namespace

std::int64_t ProductTiles::count() const { return divide_up(m, rows) * divide_up(n, columns); }

ProductTile ProductTiles::operator[](std::int64_t index) const {
  const std::int64_t across = divide_up(n, columns);
  const std::int64_t row = index / across * rows;
  const std::int64_t column = index % across * columns;
  return {row, std::min(m, row + rows), column, std::min(n, column + columns)};
}

ProductTiles split_product(std::int64_t m, std::int64_t n) {
  return {m, n, piece_of(m, kMaxTileRows, kTileRowStep), piece_of(n, kMaxTileColumns, kTileColumnStep)};
}

std::span<const ProductKernel> product_kernels() {
  static const std::vector<ProductKernel> list = list_kernels();
  return list;
}

const ProductKernel& best_product_kernel() {
  static const ProductKernel& best = *std::ranges::find_if(product_kernels(), &ProductKernel::available);
  return best;
}

void clear(const Product& product, const ProductTile& tile) {
  if (product.add) return;
  for (std::int64_t row = tile.first_row; row < tile.last_row; ++row) {
    float* c = product.c + row * product.c_row_stride;
    std::fill(c + tile.first_column, c + tile.last_column, 0.0F);
  }
}

}  // namespace ufp4::cpu
