// The random bits of stochastic rounding: Philox4x32-10, with what its first rounds make of the step on the host or
// once a thread, of a group of eight columns once a tile, and of a row once a run.
#pragma once

#include "cuda/operand.h"
#include "numerics/philox.h"

namespace ufp4::cuda {

// Two 32-bit halves of a product.
struct Product {
  std::uint32_t high, low;
};

__device__ inline Product multiply(std::uint32_t a, std::uint32_t b) {
  const std::uint64_t product = std::uint64_t{a} * b;
  return {static_cast<std::uint32_t>(product >> 32), static_cast<std::uint32_t>(product)};
}

// Where an operand stands: what the first round makes of the step and the stream, and the offsets.
struct Start {
  std::uint32_t x, y, z;
  std::uint32_t row_offset, column_offset;
};

__device__ inline Start start_of(const Operand& p) {
  Start start{p.first_x, p.first_y, p.first_z, p.row_offset, p.column_offset};
  if (p.device.step != nullptr) {
    const Product product = multiply(philox::kMultiplier1, __ldg(p.device.step));
    start.x = product.high ^ p.round_keys[0];
    start.y = product.low;
  }
  if (p.device.layer != nullptr) {
    start.z = (p.stream + kStreamsPerLayer * __ldg(p.device.layer)) ^ p.round_keys[1];
  }
  if (p.device.first_row != nullptr) {
    const std::uint32_t first = __ldg(p.device.first_row);
    (p.of_columns ? start.column_offset : start.row_offset) += first;
  }
  return start;
}

// Whether the device has moved the operand to a column within a group. The host has not: see Span.
__device__ inline bool begins_within_group(const Operand& p) {
  return p.of_columns && p.device.first_row != nullptr && ((p.column_offset + __ldg(p.device.first_row)) & 7u) != 0;
}

// The number that a row draws its random bits by.
template <Span kSpan>
__device__ inline std::uint32_t row_number(const Operand& p, const Start& start, std::uint32_t row, bool valid) {
  if (kSpan != Span::kLanes || p.row_numbers == nullptr) return row + start.row_offset;
  return valid ? __ldg(p.row_numbers + row) : 0;
}

// All that the first three rounds make of a group of eight columns and need not know the row for.
__device__ inline uint4 group_start(const Operand& p, const Start& start, std::uint32_t group) {
  const Product first = multiply(philox::kMultiplier0, group);
  const Product second = multiply(philox::kMultiplier1, first.high ^ start.z);
  const Product third = multiply(philox::kMultiplier0, second.high ^ start.y ^ p.round_keys[2]);
  return {first.low ^ p.round_keys[3], second.low ^ p.round_keys[4], third.high ^ p.round_keys[5], third.low};
}

// The same of a row.
__device__ inline Product row_start(const Start& start, std::uint32_t row) {
  return multiply(philox::kMultiplier0, start.x ^ row);
}

// The four words of the Philox counter (group, row, step, stream).
__device__ inline uint4 philox_words(const Operand& p, const uint4& group, const Product& row) {
  const Product third = multiply(philox::kMultiplier1, row.high ^ group.x);
  uint4 c{third.high ^ group.y, third.low, group.z ^ row.low, group.w};
#pragma unroll
  for (int round = 3; round < philox::kRounds; ++round) {
    const Product p0 = multiply(philox::kMultiplier0, c.x);
    const Product p1 = multiply(philox::kMultiplier1, c.z);
    c = {p1.high ^ c.y ^ p.round_keys[2 * round], p1.low, p0.high ^ c.w ^ p.round_keys[2 * round + 1], p0.low};
  }
  return c;
}

// Two 16-bit numbers a word for the eight elements from (row, column) on, the middle of a group: a shard that does not
// start at a multiple of eight. Not inlined: it is rare and takes registers.
static __device__ __noinline__ uint4 words_across_groups(const Operand* p, Start start, std::uint32_t row,
                                                         std::uint32_t column) {
  const Product of_row = row_start(start, row);
  const uint4 w = philox_words(*p, group_start(*p, start, column >> 3), of_row);
  const uint4 next = philox_words(*p, group_start(*p, start, (column + 8) >> 3), of_row);
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

// What the runs of a block of threads share: the starts of the groups of kRuns runs in shared memory, the first groups
// of the runs and then their second ones, so that neighbouring runs lie in different banks.
template <int kRuns>
struct GroupStarts {
  uint4 starts[2][kRuns];

  // Thread i of the first 2 * kRuns writes one; `column` is the operand's at the first run, offset not yet added.
  __device__ void fill(const Operand& p, const Start& start, std::uint32_t column, unsigned i) {
    const std::uint32_t first = column + start.column_offset + i % kRuns * kRun + i / kRuns * 8;
    starts[i / kRuns][i % kRuns] = group_start(p, start, first >> 3);
  }
};

// The two groups of a run in shared memory; null where nothing is random.
struct RunGroups {
  const uint4* first;
  const uint4* second;
};

// The random words of a run's elements from kFirst (0 or 8) on. `row` is a row_number, `column` that of the run, offset
// not yet added. Only kernels of Span::kLanes know operands that begin within a group.
template <Span kSpan, int kFirst>
__device__ inline uint4 random_words(const Operand& p, const Start& start, const RunGroups& groups, std::uint32_t row,
                                     std::uint32_t column) {
  if (kSpan == Span::kLanes && (start.column_offset & 7u) != 0) {
    return words_across_groups(&p, start, row, column + start.column_offset + kFirst);
  }
  return philox_words(p, kFirst == 0 ? *groups.first : *groups.second, row_start(start, row));
}

}  // namespace ufp4::cuda
