#include "cpu/int8_product.h"

#include <algorithm>
#include <string_view>
#include <vector>

#include "cpu/int8_product_blocks.h"
#include "cpu/job.h"
#include "hwy/targets.h"
#if HWY_ARCH_X86
#include <cpuid.h>
#endif

namespace ufp4::cpu {
namespace {

// Tiles end where blocks of sums do: those have 8 rows, or 4, and 48, 24 or 12 columns.
constexpr std::int64_t kTileRowStep = 8;
constexpr std::int64_t kTileColumnStep = 48;

std::int64_t divide_up(std::int64_t n, std::int64_t by) { return (n + by - 1) / by; }

// The length of equal pieces of n, in whole steps, none longer than `longest`.
std::int64_t equal_pieces(std::int64_t n, std::int64_t longest, std::int64_t step) {
  if (n <= 0) return step;
  return divide_up(divide_up(n, divide_up(n, longest)), step) * step;
}

// Whether the processor has the instruction for quads that was compiled for this target.
bool has_quads(const Kernels& kernels) {
#if HWY_ARCH_X86
  if (kernels.lanes == 16) return __builtin_cpu_supports("avx512vnni") != 0;
  constexpr unsigned kAvxVnni = 1U << 4;
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a & kAvxVnni) != 0;
#else
  return kernels.multiply_int8_quads != nullptr;
#endif
}

const char* name_of_quads(const Kernels& kernels) { return kernels.lanes == 16 ? "AVX3_VNNI" : "AVX2_VNNI"; }

std::vector<Int8ProductKernel> list_kernels() {
  std::vector<Int8ProductKernel> list;
  for (const Kernels& kernels : all_kernels()) {
    if (kernels.multiply_int8_quads == nullptr) continue;
    list.push_back({name_of_quads(kernels), is_supported(kernels) && has_quads(kernels), kernels.multiply_int8_quads});
  }
  for (const Kernels& kernels : all_kernels()) {
    list.push_back({kernels.name, is_supported(kernels), kernels.multiply_int8});
  }
  return list;
}

}  // namespace

ProductTiles split_int8_product(std::int64_t m, std::int64_t n) {
  return {m, n, equal_pieces(m, kMaxInt8Rows, kTileRowStep), equal_pieces(n, kMaxInt8Columns, kTileColumnStep)};
}

std::span<const Int8ProductKernel> int8_product_kernels() {
  static const std::vector<Int8ProductKernel> list = list_kernels();
  return list;
}

const Int8ProductKernel& best_int8_product_kernel() {
  static const Int8ProductKernel& best = *std::ranges::find_if(int8_product_kernels(), &Int8ProductKernel::available);
  return best;
}

}  // namespace ufp4::cpu
