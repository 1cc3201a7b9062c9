// A second way to the same numbers, for tests: rounding by search over all codes instead of thresholds and arithmetic.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "ufp4/format.h"

namespace ufp4::oracle {

// The codes that a format may produce, by ascending value: no negative zero, no -8 but for full two's complement.
inline std::vector<std::uint8_t> codes_of(const ElementFormat& element) {
  std::vector<std::uint8_t> codes;
  for (unsigned code = 0; code < 16; ++code) {
    const float value = code_value(element, code);
    const bool full = element.code_kind == CodeKind::kFullTwosComplement;
    if (code == 8 && !full) continue;  // a negative zero, or -8
    if (std::fabs(value) > element.largest() && !(full && code == 8)) continue;
    codes.push_back(static_cast<std::uint8_t>(code));
  }
  std::sort(codes.begin(), codes.end(),
            [&](auto a, auto b) { return code_value(element, a) < code_value(element, b); });
  return codes;
}

// The place of a code's magnitude among the levels; its parity decides ties.
inline int index_of(const ElementFormat& element, std::uint8_t code) {
  const float magnitude = std::fabs(code_value(element, code));
  for (int i = 0; i < element.level_count; ++i) {
    if (element.levels[static_cast<std::size_t>(i)] == magnitude) return i;
  }
  return 8;  // -8
}

// The code nearest to t; a tie goes to the even index. Beyond the ends: the end.
inline std::uint8_t nearest(const ElementFormat& element, float t) {
  std::uint8_t best = 0;
  double best_distance = std::numeric_limits<double>::infinity();
  for (const std::uint8_t code : codes_of(element)) {
    const double distance = std::fabs(static_cast<double>(t) - static_cast<double>(code_value(element, code)));
    if (distance < best_distance || (distance == best_distance && index_of(element, code) % 2 == 0)) {
      best = code;
      best_distance = distance;
    }
  }
  return best;
}

// Stochastic rounding of t with the 16-bit number n: away from zero if u is below t's place between its neighbours.
inline std::uint8_t stochastic(const ElementFormat& element, float t, std::uint32_t n) {
  const std::vector<std::uint8_t> codes = codes_of(element);
  const double least = static_cast<double>(code_value(element, codes.front()));
  const double most = static_cast<double>(code_value(element, codes.back()));
  const double x = std::clamp(static_cast<double>(t), least, most);
  std::size_t below = 0;
  while (below + 1 < codes.size() && static_cast<double>(code_value(element, codes[below + 1])) <= x) ++below;
  const double lo = static_cast<double>(code_value(element, codes[below]));
  if (lo == x) return codes[below];
  const double hi = static_cast<double>(code_value(element, codes[below + 1]));
  const double u = (static_cast<double>(n) + 0.5) / 65536;
  if (x > 0) return u < (x - lo) / (hi - lo) ? codes[below + 1] : codes[below];
  return u < (hi - x) / (hi - lo) ? codes[below] : codes[below + 1];
}

// The scale of a block of finite values with an extreme of at least 2^-120, in FP32 as docs/numerics.md writes it, and
// the values times its inverse.
inline float scale_of(const ElementFormat& element, std::span<const float> values, std::vector<float>& t) {
  const auto [least, most] = std::minmax_element(values.begin(), values.end());
  const float positive = std::max(0.0F, *most);
  const float negative = std::max(0.0F, -*least);
  const float amax = std::max(positive, negative);
  const float largest = element.largest();
  float scale = amax / largest;
  float inverse = largest / amax;
  if (element.code_kind == CodeKind::kFullTwosComplement) {
    const float a = std::max(positive / 8.0F, negative / 7.0F);
    const float b = std::max(negative / 8.0F, positive / 7.0F);
    scale = a < b ? -a : b;
    inverse = 1.0F / scale;
  }
  t.clear();
  for (const float v : values) t.push_back(v * inverse);
  return scale;
}

}  // namespace ufp4::oracle
