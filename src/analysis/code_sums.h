// Sums over values, their images and their codes, from which the figures of a quantization follow: in SIMD, one body
// for all instruction sets, whose results agree to rounding.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "ufp4/format.h"

namespace ufp4::analysis {

// Blocks that lie one after another.
struct CodedBlocks {
  const float* values = nullptr;           // x
  const float* images = nullptr;           // q
  const std::uint8_t* codes = nullptr;     // two a byte
  const double* inverse_scales = nullptr;  // a block; 0 where the scale is 0
  std::size_t blocks = 0;
  std::size_t block = 16;  // elements of one: a multiple of 16
  CodeKind kind = CodeKind::kSignMagnitude;
  // What x / scale may reach before it counts as clamped.
  float least = 0;
  float most = 0;
};

struct CodeSums {
  double xx = 0, xq = 0, qq = 0;
  std::int64_t clamped = 0;
  std::array<std::int64_t, 16> count{};  // by code
  std::array<double, 9> magnitude{};     // of |x| / scale, by the level's index: the code -8 has the last

  CodeSums& operator+=(const CodeSums& other);
  double alpha() const { return xx == 0 ? 1 : xq / xx; }
  double nmse() const { return xx == 0 ? 0 : (qq - 2 * xq + xx) / xx; }
};

void add(const CodedBlocks& blocks, CodeSums& sums);

}  // namespace ufp4::analysis
