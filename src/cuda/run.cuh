// One thread's run of 16 values to the indices of their levels, and those to codes or values. All 32 lanes of a warp
// must call quantize_run together.
#pragma once

#include "cuda/operand.h"
#include "cuda/random.cuh"
#include "cuda/scale.cuh"
#include "cuda/transform.cuh"

namespace ufp4::cuda {

// The values of the codes live one a lane, so that a lookup is a shuffle: exact for any table.
__device__ inline float values_of_lane(const float (&values)[16]) { return values[threadIdx.x % 16]; }

// What a thread keeps of an operand from run to run.
struct Running {
  float lane_value;
  Window window;
  StepStart step;
};

template <Grid kGrid, bool kStochastic>
__device__ inline Running begin(const Operand& p) {
  Running running{};
  if constexpr (kStochastic) running.step = step_start(p);
  if constexpr (kGrid == Grid::kWindow) {
    running.window = open_window(p);
  } else {
    running.lane_value = values_of_lane(p.values);
  }
  return running;
}

// Whether a kernel has anything to do for the operand.
template <Grid kGrid>
__device__ inline bool wanted(const Operand& p) {
  return kGrid != Grid::kWindow || p.only_if == nullptr || *p.only_if != 0;
}

template <Grid kGrid>
__device__ inline void end(const Operand& p, const Running& running) {
  if constexpr (kGrid == Grid::kWindow) close_window(p, running.window);
}

// Whether this lane has the first run of its block.
template <Span kSpan>
__device__ inline bool first_of_block(const Operand& p) {
  return kSpan != Span::kLanes || (threadIdx.x & static_cast<unsigned>(p.lanes - 1)) == 0;
}

// A run after rounding: for each element a word that holds the index of its level (see round_to_index), and the scale
// of the block.
struct RunIndices {
  std::uint32_t x[kRun];
  float scale;
};

// A float whose low bits hold an integer: anchor + k for a small k, in units of the anchor's last place.
inline constexpr float kNearestAnchor = 12582912.0F;             // 1.5 * 2^23: unit 1
inline constexpr std::uint32_t kStochasticAnchor = 0x00004340u;  // upper half of 192.0F: unit 2^-16

// The bits of a float that hold, as a nibble of the byte kByte (see below), the index of the level of t in two's
// complement; |t| is at most L, but for rounding.
//
// The index before rounding is x = t * factor + offset, exact as a real number. Nearest: the sum x + anchor rounds x to
// an integer, ties to even, and the even index is the one that numerics asks for.
//
// Stochastic: with T = 65536 |x|, n the random number and q the index below, numerics goes up if n + 0.5 < T - 65536 q.
// With R = ceil(T - 0.5) this is n < R - 65536 q, so the index is floor((R + 65535 - n) / 65536), and -floor(..) for
// negative t is floor((n - R) / 65536): n or its complement is put into the anchor's last bits, below its unit 1. R is
// T rounded to nearest with ties down. The sum rounds to nearest even, so factor holds 1 - 2^-24: the product, exact
// within the fused operation, then lies between |x| and the float below |x|, which turns a tie into a "below" and moves
// no other x across a tie.
template <Grid kGrid>
__device__ inline float round_to_index(float t, float anchor, float index_factor, std::uint32_t far_factor) {
  if constexpr (kGrid == Grid::kUniform || kGrid == Grid::kWindow) {
    return __fmaf_rn(t, index_factor, anchor);
  } else {
    // The steps of e2m1 are 1/2 below 2, then 2^(e-1) in [2^e, 2^(e+1)): x = 2t, or t * 2^(1-e) + 2^e (e = 1, 2).
    const bool far = fabsf(t) >= 2.0F;
    const std::uint32_t power = __float_as_uint(t) & 0xFF800000u;  // +-2^e
    const std::uint32_t magnitude = far ? power & 0x7FFFFFFFu : 0x3F800000u;
    return __fmaf_rn(t, __uint_as_float(far_factor - magnitude), anchor + (far ? __uint_as_float(power) : 0.0F));
  }
}

// kTable: the index in two's complement by comparison, as the reference does it.
template <bool kStochastic>
__device__ inline std::uint32_t table_index(float t, const Operand& p, std::uint32_t n16) {
  const float magnitude = fminf(fabsf(t), p.largest);
  int index = 0;
  if constexpr (kStochastic) {
    float low = 0;
    float high = p.levels[1];
#pragma unroll
    for (int i = 1; i < 8; ++i) {
      if (i < p.level_count && p.levels[i] <= magnitude) {
        index = i;
        low = p.levels[i];
        high = i + 1 < p.level_count ? p.levels[i + 1] : low;
      }
    }
    const float u = (static_cast<float>(n16) + 0.5F) * 0x1p-16F;
    if (low < high && u < __fdiv_rn(magnitude - low, high - low)) ++index;
  } else {
#pragma unroll
    for (int i = 0; i < 7; ++i) index += i + 1 < p.level_count && magnitude > p.boundaries[i] ? 1 : 0;
  }
  return static_cast<std::uint32_t>(t < 0 ? -index : index);
}

// All ones in the lower half if t0 has its sign bit set, in the upper if t1 has.
__device__ inline std::uint32_t sign_masks(float t0, float t1) {
  std::uint32_t masks;  // a selector with its bit 3 set spreads the sign of a byte; __byte_perm hides that
  asm("prmt.b32 %0, %1, %2, 0xFFBB;" : "=r"(masks) : "r"(__float_as_uint(t0)), "r"(__float_as_uint(t1)));
  return masks;
}

// Eight bytes with a nibble each (byte kByte of x[kFirst..kFirst + 8)) to one word.
template <int kByte, int kFirst>
__device__ inline std::uint32_t pack_nibbles(const std::uint32_t (&x)[kRun]) {
  constexpr unsigned kPair = kByte | ((4 + kByte) << 4);
  const auto pairs = [&](int i) {
    return __byte_perm(__byte_perm(x[i], x[i + 2], kPair), __byte_perm(x[i + 4], x[i + 6], kPair), 0x5410);
  };
  const std::uint32_t even = pairs(kFirst);
  const std::uint32_t odd = pairs(kFirst + 1);
  return (even & 0x0F0F0F0Fu) | ((odd << 4) & 0xF0F0F0F0u);
}

// Eight nibbles in two's complement, none of them -8, to sign and magnitude.
__device__ inline std::uint32_t to_sign_magnitude(std::uint32_t x) {
  const std::uint32_t sign = (x >> 3) & 0x11111111u;
  return (x ^ (sign * 7u)) + sign;  // negative: 8 + the complement of the lower three bits + 1, which never carries
}

// The indices of v[kFirst..kFirst + 8). `row`, `column` of the run, offsets already added.
template <Grid kGrid, bool kStochastic, int kFirst>
__device__ inline void round8(const float (&v)[kRun], float inverse, const Operand& p, const StepStart& step,
                              const RunGroups& groups, std::uint32_t row, std::uint32_t column,
                              std::uint32_t (&x)[kRun]) {
  std::uint32_t words[4] = {};
  if constexpr (kStochastic) {
    const uint4 w = random_words<kFirst>(p, step, groups, row, column);
    words[0] = w.x, words[1] = w.y, words[2] = w.z, words[3] = w.w;
  }
  constexpr std::uint32_t kFarFactor = kStochastic ? 0x7F7FFFFFu : 0x7F800000u;  // 2 / 2^e: far_factor - bits of 2^e
#pragma unroll
  for (int i = kFirst; i < kFirst + 8; i += 2) {
    constexpr bool kClips = kGrid == Grid::kWindow && !kStochastic;
    const float t0 = kClips ? clip(v[i] * inverse) : v[i] * inverse;
    const float t1 = kClips ? clip(v[i + 1] * inverse) : v[i + 1] * inverse;
    std::uint32_t n = words[i % 8 / 2];
    if constexpr (kGrid == Grid::kTable) {
      x[i] = table_index<kStochastic>(t0, p, n & 0xFFFFu);
      x[i + 1] = table_index<kStochastic>(t1, p, n >> 16);
    } else if constexpr (kStochastic) {
      n ^= ~sign_masks(t0, t1);  // the complement where t is not negative
      const float anchor0 = __uint_as_float(__byte_perm(n, kStochasticAnchor, 0x5410));
      const float anchor1 = __uint_as_float(__byte_perm(n, kStochasticAnchor, 0x5432));
      x[i] = __float_as_uint(round_to_index<kGrid>(t0, anchor0, p.index_factor, kFarFactor));
      x[i + 1] = __float_as_uint(round_to_index<kGrid>(t1, anchor1, p.index_factor, kFarFactor));
    } else {
      x[i] = __float_as_uint(round_to_index<kGrid>(t0, kNearestAnchor, p.index_factor, kFarFactor));
      x[i + 1] = __float_as_uint(round_to_index<kGrid>(t1, kNearestAnchor, p.index_factor, kFarFactor));
    }
  }
}

// Quantizes a run that starts at (row, column) of the operand and is of it if `valid`.
template <Grid kGrid, bool kStochastic, Span kSpan>
__device__ inline RunIndices quantize_run(float (&v)[kRun], const Operand& p, Running& running, const RunGroups& groups,
                                          std::uint32_t row, std::uint32_t column, bool valid) {
  const Extremes extremes = transform<kSpan>(v, p, column);
  Scale s;
  if constexpr (kGrid == Grid::kWindow) {
    s = windowed_scale<kStochastic, kSpan>(v, extremes, p, running.window, valid && first_of_block<kSpan>(p));
  } else {
    s = block_scale<kSpan>(v, extremes, p);
  }
  RunIndices result;
  result.scale = s.scale;
  row += p.row_offset;
  column += p.column_offset;
  round8<kGrid, kStochastic, 0>(v, s.inverse, p, running.step, groups, row, column, result.x);
  round8<kGrid, kStochastic, 8>(v, s.inverse, p, running.step, groups, row, column, result.x);
  return result;
}

// The codes of a run, the first in the lowest nibble of x; 0 for a block that is not finite.
template <Grid kGrid, bool kStochastic>
__device__ inline uint2 codes_of(const RunIndices& run, const Operand& p) {
  constexpr int kByte = kStochastic && kGrid != Grid::kTable ? 2 : 0;
  uint2 codes{pack_nibbles<kByte, 0>(run.x), pack_nibbles<kByte, 8>(run.x)};
  if (p.sign_magnitude) codes = {to_sign_magnitude(codes.x), to_sign_magnitude(codes.y)};
  return isnan(run.scale) ? make_uint2(0, 0) : codes;
}

// The index in x as a number.
template <bool kStochastic>
__device__ inline float index_value(std::uint32_t x) {
  if constexpr (kStochastic) {
    return __uint_as_float(x & 0xFFFF0000u) - __uint_as_float(kStochasticAnchor << 16);
  } else {
    return __uint_as_float(x) - kNearestAnchor;
  }
}

}  // namespace ufp4::cuda
