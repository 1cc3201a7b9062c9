// Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
#pragma once

#include <array>
#include <cstdint>

#include "ufp4/operand.h"

namespace ufp4::philox {

inline constexpr std::uint32_t kMultiplier0 = 0xD2511F53u;
inline constexpr std::uint32_t kMultiplier1 = 0xCD9E8D57u;
inline constexpr std::uint32_t kWeyl0 = 0x9E3779B9u;
inline constexpr std::uint32_t kWeyl1 = 0xBB67AE85u;
inline constexpr int kRounds = 10;

using Counter = std::array<std::uint32_t, 4>;
using Key = std::array<std::uint32_t, 2>;

constexpr Key make_key(std::uint64_t seed) {
  return {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)};
}

// The four random words of a counter.
constexpr Counter generate(Counter c, Key key) {
  for (int round = 0; round < kRounds; ++round) {
    const std::uint64_t p0 = std::uint64_t{kMultiplier0} * c[0];
    const std::uint64_t p1 = std::uint64_t{kMultiplier1} * c[2];
    c = {static_cast<std::uint32_t>(p1 >> 32) ^ c[1] ^ key[0], static_cast<std::uint32_t>(p1),
         static_cast<std::uint32_t>(p0 >> 32) ^ c[3] ^ key[1], static_cast<std::uint32_t>(p0)};
    key[0] += kWeyl0;
    key[1] += kWeyl1;
  }
  return c;
}

// The 16-bit number n of stochastic rounding for element (row, column) of the operand, numbered as in the whole
// operand; the uniform variate is (n + 0.5) / 65536.
constexpr std::uint32_t draw16(const Place& place, std::uint32_t row, std::uint32_t column) {
  const Counter words = generate({column >> 3, row, place.step, place.stream}, make_key(place.seed));
  const std::uint32_t lane = column & 7;
  return (words[lane >> 1] >> (16 * (lane & 1))) & 0xFFFFu;
}

}  // namespace ufp4::philox
