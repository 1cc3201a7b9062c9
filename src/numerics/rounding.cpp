#include "numerics/rounding.h"

#include <algorithm>
#include <cmath>

namespace ufp4::reference {
namespace {

float variate(std::uint32_t n16) { return (static_cast<float>(n16) + 0.5F) / 65536.0F; }

// Full two's complement elements are integers: up to 8 below zero and 7 above.
int full_index(float magnitude, const std::uint32_t* n16) {
  if (n16 == nullptr) return static_cast<int>(std::nearbyint(magnitude));  // ties to even
  const float lo = std::floor(magnitude);
  return static_cast<int>(variate(*n16) < magnitude - lo ? lo + 1 : lo);
}

}  // namespace

int nearest_index(const ElementFormat& e, float t) {
  int i = 0;
  while (i + 1 < e.level_count) {
    const auto lo = static_cast<std::size_t>(i);
    const float middle = (e.levels[lo] + e.levels[lo + 1]) / 2;  // exact for 4-bit levels
    if (t < middle || (t == middle && i % 2 == 0)) break;
    ++i;
  }
  return i;
}

int stochastic_index(const ElementFormat& e, float t, std::uint32_t n16) {
  int i = 0;
  while (i + 1 < e.level_count && e.levels[static_cast<std::size_t>(i) + 1] <= t) ++i;
  if (i + 1 == e.level_count) return i;
  const float lo = e.levels[static_cast<std::size_t>(i)];
  const float hi = e.levels[static_cast<std::size_t>(i) + 1];
  return variate(n16) < (t - lo) / (hi - lo) ? i + 1 : i;
}

std::uint8_t encode(const ElementFormat& e, float t, const std::uint32_t* n16) {
  const bool negative = t < 0;
  int index = 0;
  if (e.code_kind == CodeKind::kFullTwosComplement) {
    index = full_index(std::min(std::fabs(t), negative ? 8.0F : 7.0F), n16);
  } else {
    const float magnitude = std::min(std::fabs(t), e.largest());
    index = n16 == nullptr ? nearest_index(e, magnitude) : stochastic_index(e, magnitude, *n16);
  }
  if (index == 0 || !negative) return static_cast<std::uint8_t>(index);
  return static_cast<std::uint8_t>(e.code_kind == CodeKind::kSignMagnitude ? 8 + index : 16 - index);
}

}  // namespace ufp4::reference
