// Random numbers and permutations of the data layer: counter-based, so that a position is a number and not a history.
#pragma once

#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

#include "numerics/philox.h"

namespace ufp4::data {

// What a random number is for; streams of different purposes never share a counter.
enum class Purpose : std::uint32_t {
  kDocuments = 0,
  kSequences = 1,
  kSplit = 2,
  kTrainText = 3,
  kValText = 4,
  kWords = 5,
  kSource = 6
};

// 64 random bits of (seed, purpose, index, draw). The key is set apart from that of stochastic rounding, which uses the
// seed of the same run.
constexpr std::uint64_t random64(std::uint64_t seed, Purpose purpose, std::uint64_t index, std::uint32_t draw) {
  constexpr std::uint64_t kDataKey = 0xD1B54A32D192ED03u;
  const philox::Counter words =
      philox::generate({draw, static_cast<std::uint32_t>(purpose), static_cast<std::uint32_t>(index),
                        static_cast<std::uint32_t>(index >> 32)},
                       philox::make_key(seed ^ kDataKey));
  return std::uint64_t{words[1]} << 32 | words[0];
}

// The upper half of the 128-bit product bits * n: below n, and uniform to n / 2^64.
constexpr std::uint64_t scale_to(std::uint64_t bits, std::uint64_t n) {
  const std::uint64_t low = (bits & 0xFFFFFFFFu) * (n & 0xFFFFFFFFu);
  const std::uint64_t mid1 = (bits >> 32) * (n & 0xFFFFFFFFu) + (low >> 32);
  const std::uint64_t mid2 = (bits & 0xFFFFFFFFu) * (n >> 32) + (mid1 & 0xFFFFFFFFu);
  return (bits >> 32) * (n >> 32) + (mid1 >> 32) + (mid2 >> 32);
}

// A uniform permutation of 0 .. n-1 (Fisher and Yates), the same on every machine.
inline std::vector<std::int64_t> permutation(std::int64_t n, std::uint64_t seed, Purpose purpose, std::uint32_t epoch) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), std::int64_t{0});
  for (std::size_t i = order.size(); i > 1; --i) {
    std::swap(order[i - 1], order[scale_to(random64(seed, purpose, i, epoch), i)]);
  }
  return order;
}

}  // namespace ufp4::data
