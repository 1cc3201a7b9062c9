// The random bits of stochastic rounding: Philox4x32-10 with the first round's constants made on the host.
#pragma once

#include "cuda/operand.h"
#include "numerics/philox.h"

namespace ufp4::cuda {

// The four words of the Philox counter (group, row, step, stream).
__device__ inline uint4 philox_words(const Operand& p, std::uint32_t group, std::uint32_t row) {
  const std::uint64_t first = std::uint64_t{philox::kMultiplier0} * group;
  std::uint32_t x = p.first_x;
  std::uint32_t y = p.first_y;
  if (p.device_step != nullptr) {
    const std::uint64_t product = std::uint64_t{philox::kMultiplier1} * __ldg(p.device_step);
    x = static_cast<std::uint32_t>(product >> 32) ^ p.round_keys[0];
    y = static_cast<std::uint32_t>(product);
  }
  uint4 c{x ^ row, y, static_cast<std::uint32_t>(first >> 32) ^ p.first_z, static_cast<std::uint32_t>(first)};
#pragma unroll
  for (int round = 1; round < philox::kRounds; ++round) {
    const std::uint64_t p0 = std::uint64_t{philox::kMultiplier0} * c.x;
    const std::uint64_t p1 = std::uint64_t{philox::kMultiplier1} * c.z;
    c = {static_cast<std::uint32_t>(p1 >> 32) ^ c.y ^ p.round_keys[2 * round], static_cast<std::uint32_t>(p1),
         static_cast<std::uint32_t>(p0 >> 32) ^ c.w ^ p.round_keys[2 * round + 1], static_cast<std::uint32_t>(p0)};
  }
  return c;
}

// Two 16-bit numbers a word for the eight elements from (row, column) on, the middle of a group: a shard that does not
// start at a multiple of eight. Not inlined: it is rare and takes registers.
static __device__ __noinline__ uint4 words_across_groups(const Operand* p, std::uint32_t row, std::uint32_t column) {
  const uint4 w = philox_words(*p, column >> 3, row);
  const uint4 next = philox_words(*p, (column + 8) >> 3, row);
  const std::uint32_t skip = column & 7u;
  std::uint32_t words[8] = {w.x, w.y, w.z, w.w, next.x, next.y, next.z, next.w};
  if (skip & 4u) {
#pragma unroll
    for (int i = 0; i < 6; ++i) words[i] = words[i + 2];
  }
  if (skip & 2u) {
#pragma unroll
    for (int i = 0; i < 5; ++i) words[i] = words[i + 1];
  }
  if (skip & 1u) {
#pragma unroll
    for (int i = 0; i < 4; ++i) words[i] = __funnelshift_r(words[i], words[i + 1], 16);
  }
  return {words[0], words[1], words[2], words[3]};
}

// The random words of the eight elements from (row, column) on, offsets already added.
__device__ inline uint4 random_words(const Operand& p, std::uint32_t row, std::uint32_t column) {
  return (p.column_offset & 7u) == 0 ? philox_words(p, column >> 3, row) : words_across_groups(&p, row, column);
}

}  // namespace ufp4::cuda
