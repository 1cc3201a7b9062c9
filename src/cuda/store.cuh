// Results to memory: codes, scales and dequantized values of a run. All 32 lanes of a warp call these functions
// together.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp8.h>

#include "cuda/operand.h"
#include "cuda/quantize_run.cuh"

namespace ufp4::cuda {

inline constexpr std::uint32_t kNanBf16x2 = 0x7FC07FC0u;  // what the scalar reference writes, twice

__device__ inline std::uint32_t bf16x2(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const std::uint32_t*>(&pair);
}

// Writes 16 values, or NaN, to element `at` of `out`: FP32.
__device__ inline void store_f32_run(void* out, std::int64_t at, const float (&v)[kRun], bool nan) {
  auto* to = reinterpret_cast<float4*>(static_cast<float*>(out) + at);
  const float quiet = __uint_as_float(kNanF32);
#pragma unroll
  for (int i = 0; i < kRun; i += 4) {
    to[i / 4] = nan ? make_float4(quiet, quiet, quiet, quiet) : make_float4(v[i], v[i + 1], v[i + 2], v[i + 3]);
  }
}

// Two neighbouring lanes write the first halves of their runs and the second ones together, so that each store fills
// sectors of memory.
__device__ inline void store_halves_together(std::uint16_t* out, std::int64_t at,
                                             const std::uint32_t (&words)[kRun / 2], bool write) {
  const bool odd = threadIdx.x % 2 != 0;
  std::uint32_t even_half[4], odd_half[4];  // of the run of the even lane and of the odd one
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const std::uint32_t received = __shfl_xor_sync(kFullWarp, odd ? words[i] : words[4 + i], 1);
    even_half[i] = odd ? received : words[i];
    odd_half[i] = odd ? words[4 + i] : received;
  }
  const std::int64_t own = write ? at : -1;
  const std::int64_t other = __shfl_xor_sync(kFullWarp, own, 1);
  const auto store = [&](std::int64_t run, const std::uint32_t(&half)[4]) {
    if (run >= 0) *reinterpret_cast<uint4*>(out + run + (odd ? 8 : 0)) = make_uint4(half[0], half[1], half[2], half[3]);
  };
  store(odd ? other : own, even_half);
  store(odd ? own : other, odd_half);
}

// Writes the values v[0..16) of a run, or NaN where its scale is that, to element `at` of `out`. All lanes call it;
// those with `write` store. kTogether: the halves of a sector in one store; else they meet in the cache, which is
// faster where there is much else to calculate.
template <bool kTogether>
__device__ inline void store_bf16_run(void* out, std::int64_t at, const float (&v)[kRun], float scale, bool write) {
  std::uint32_t words[kRun / 2];
#pragma unroll
  for (int i = 0; i < kRun / 2; ++i) words[i] = bf16x2(v[2 * i], v[2 * i + 1]);
  if (__any_sync(kFullWarp, isnan(scale))) {  // seldom any: a branch for the warp, not a choice for every word
#pragma unroll
    for (int i = 0; i < kRun / 2; ++i) words[i] = isnan(scale) ? kNanBf16x2 : words[i];
  }
  auto* values = static_cast<std::uint16_t*>(out);
  if constexpr (kTogether) return store_halves_together(values, at, words, write);
  if (!write) return;
  auto* to = reinterpret_cast<uint4*>(values + at);
  to[0] = make_uint4(words[0], words[1], words[2], words[3]);
  to[1] = make_uint4(words[4], words[5], words[6], words[7]);
}

__device__ inline void store_values(void* out, bool f32, std::int64_t at, const float (&v)[kRun], float scale,
                                    bool write) {
  if (!f32) return store_bf16_run<false>(out, at, v, scale, write);
  if (write) store_f32_run(out, at, v, isnan(scale));
}

// The values of the codes, times `scale`. kTwoTables: `alternative` is 1 where they are those of the other table (see
// values_of_lane).
template <bool kTwoTables>
__device__ inline void look_up(uint2 codes, float scale, float lane_value, std::uint32_t alternative,
                               float (&v)[kRun]) {
#pragma unroll
  for (int i = 0; i < kRun; ++i) {
    const std::uint32_t code = (i < 8 ? codes.x : codes.y) >> (4 * (i % 8));
    if constexpr (kTwoTables) {
      v[i] = __shfl_sync(kFullWarp, lane_value, static_cast<int>((code & 15u) + 16u * alternative)) * scale;
    } else {
      v[i] = __shfl_sync(kFullWarp, lane_value, static_cast<int>(code), 16) * scale;
    }
  }
}

// 2^(the byte of part i), i = 0 .. 3.
__device__ inline float part_power(std::uint32_t selector, int i) {
  return __uint_as_float((127u + (selector >> (8 * i) & 0xFFu)) << 23);
}

__device__ inline std::uint32_t e4m3x4(float a, float b, float c, float d) {
  const std::uint32_t low = __nv_cvt_float2_to_fp8x2({a, b}, __NV_SATFINITE, __NV_E4M3);
  const std::uint32_t high = __nv_cvt_float2_to_fp8x2({c, d}, __NV_SATFINITE, __NV_E4M3);
  return low | (high << 16);
}

// Writes 16 values that E4M3 has, or NaN.
__device__ inline void store_e4m3_run(std::uint8_t* to, const float (&v)[kRun], bool nan) {
  std::uint32_t words[kRun / 4];
#pragma unroll
  for (int i = 0; i < kRun; i += 4) words[i / 4] = e4m3x4(v[i], v[i + 1], v[i + 2], v[i + 3]);
  constexpr std::uint32_t kNan = 0x7F7F7F7Fu;
  *reinterpret_cast<uint4*>(to) =
      nan ? make_uint4(kNan, kNan, kNan, kNan) : make_uint4(words[0], words[1], words[2], words[3]);
}

// Writes 16 integers of at most 127.
__device__ inline void store_int8_run(std::int8_t* to, const float (&v)[kRun]) {
  std::uint32_t words[kRun / 4];
  const auto byte = [](float x) { return static_cast<std::uint32_t>(static_cast<int>(x)) & 0xFFu; };
#pragma unroll
  for (int i = 0; i < kRun; i += 4) {
    words[i / 4] = byte(v[i]) | byte(v[i + 1]) << 8 | byte(v[i + 2]) << 16 | byte(v[i + 3]) << 24;
  }
  *reinterpret_cast<uint4*>(to) = make_uint4(words[0], words[1], words[2], words[3]);
}

// Two F16 numbers times a number plus another, both exact.
__device__ inline std::uint32_t multiply_add_pair(std::uint32_t pair, std::uint32_t factor, std::uint32_t term) {
  std::uint32_t result;
  asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(result) : "r"(pair), "r"(factor), "r"(term));
  return result;
}

// Four E4M3 bytes of two pairs of F16 numbers.
__device__ inline std::uint32_t e4m3x4(std::uint32_t low, std::uint32_t high) {
#if __CUDA_ARCH__ >= 890
  std::uint32_t result;
  asm("{\n .reg .b16 low, high;\n"
      " cvt.rn.satfinite.e4m3x2.f16x2 low, %1;\n"
      " cvt.rn.satfinite.e4m3x2.f16x2 high, %2;\n"
      " mov.b32 %0, {low, high};\n}"
      : "=r"(result)
      : "r"(low), "r"(high));
  return result;
#else
  const auto bytes = [](std::uint32_t pair) -> std::uint32_t {
    return __nv_cvt_halfraw2_to_fp8x2(*reinterpret_cast<const __half2_raw*>(&pair), __NV_SATFINITE, __NV_E4M3);
  };
  return bytes(low) | bytes(high) << 16;
#endif
}

// Index * scale of a run as E4M3 bytes. The indices are pairs of F16 numbers 1032 + k, so that k * |scale| is
// (1032 + k) * |scale| - 1032 * |scale|; a scale of NaN makes NaN of it. The sign comes last: that of 0 * scale too.
template <bool kStochastic>
__device__ inline uint4 e4m3_of(const RunIndices& run) {
  const __half2 twice = __floats2half2_rn(fabsf(run.scale), fabsf(run.scale));
  const auto factor = *reinterpret_cast<const std::uint32_t*>(&twice);
  const std::uint32_t term = multiply_add_pair(factor, 0xE408E408u, 0x80008000u);  // -1032 * |scale| - 0
  const std::uint32_t sign = sign_mask(run.scale);
  std::uint32_t pairs[kRun / 2];
#pragma unroll
  for (int i = 0; i < kRun / 2; ++i) {
    const std::uint32_t pair = pair_of<!kStochastic>(run.x, 2 * i, 2 * i + 1);
    pairs[i] = multiply_add_pair(kStochastic ? pair : clip_pair<Output::kE4m3>(pair), factor, term);
  }
  const auto word = [&](int i) { return e4m3x4(pairs[i], pairs[i + 1]) ^ (sign & 0x80808080u); };
  return {word(0), word(2), word(4), word(6)};
}

// Index * scale of a run of kInteger as bytes in two's complement. The halves of a pair hold k + 8; for a negative
// scale they become 7 - k. Times the magnitude of the scale, and less the 8 or 7 of it, each half has the integer in
// its low byte: a multiple of 256 is added so that no half borrows from the other.
template <bool kStochastic, Output kOutput>
__device__ inline uint4 int8_of(const RunIndices& run) {
  constexpr std::uint32_t kTwice = 0x00010001u;
  constexpr std::uint32_t kBase = kStochastic ? kStochasticBase<kOutput> : kNearestBase<kOutput>;
  const auto magnitude = static_cast<std::uint32_t>(fabsf(run.scale));
  const bool negative = run.scale < 0;
  const std::uint32_t flip = negative ? 15 * kTwice : 0u;
  const std::uint32_t rest = (1024u - (negative ? 7u : 8u) * magnitude) * kTwice;
  const auto pair = [&](int i, int j) {
    std::uint32_t both = pair_of<!kStochastic>(run.x, i, j);
    if constexpr (kStochastic) {
      both -= kBase * kTwice;
    } else {
      both = clip_pair<kOutput>(both);
    }
    return (both ^ flip) * magnitude + rest;
  };
  const auto word = [&](int i) { return __byte_perm(pair(i, i + 2), pair(i + 1, i + 3), 0x6240); };
  return {word(0), word(4), word(8), word(12)};
}

// The levels times the scale of a run that is not looked up. `scale` is result.scale or, of parts, its product with
// their second-level scale.
template <Policy kPolicy, bool kStochastic, Output kOutput>
__device__ inline void values_of(const RunIndices& run, float scale, const Operand& p, float (&v)[kRun]) {
  constexpr bool kValues = gives_levels<kPolicy, kOutput>;
  constexpr bool kUniform = levels_of(kPolicy) == Levels::kUniform;
  float step = kUniform ? p.step * scale : scale;  // rounded as level * scale is
  const float one = step;
  float highest = kValues ? p.largest : static_cast<float>(p.level_count - 1);
  if constexpr (kPolicy == Policy::kBetter) highest = p.choices[run.selector].largest;
#pragma unroll
  for (int i = 0; i < kRun; ++i) {
    if constexpr (kPolicy == Policy::kTwoLevel) {
      if (i % 4 == 0) step = one * part_power(run.selector, i / 4);
    }
    float level = kValues ? __uint_as_float(run.x[i]) : index_value<kPolicy, kStochastic>(run.x[i]);
    if constexpr (kBounded<kPolicy, kStochastic>) level = clip(level, highest);
    v[i] = level * step;
    if constexpr (kPolicy == Policy::kInteger) v[i] = __fadd_rn(v[i], 0.0F);  // an integer: no negative zero
  }
}

// The scale of kWindow as an E4M3 byte, a signed power of two or NaN.
__device__ inline std::uint8_t e4m3_byte(float scale) {
  return __nv_cvt_float_to_fp8(scale, __NV_SATFINITE, __NV_E4M3);
}

// What the lanes of a block have in all of their bits.
__device__ inline std::uint32_t block_or(std::uint32_t x, int lanes) {
  for (int distance = 1; distance < lanes; distance *= 2) x |= __shfl_xor_sync(kFullWarp, x, distance);
  return x;
}

// kTwoLevel: a block's four bytes (numerics/packed_scales.h). A part of 4 elements has its own bit and that of its 8
// elements, which is set where both of a pair have one. All lanes call it.
__device__ inline std::uint32_t packed_two_level(const Operand& p, const RunIndices& run) {
  std::uint32_t own = 0;
  const unsigned lane = threadIdx.x & static_cast<unsigned>(p.lanes - 1);
#pragma unroll
  for (unsigned pair = 0; pair < 2; ++pair) {
    const std::uint32_t first = run.selector >> (16 * pair) & 0xFFu;
    const std::uint32_t second = run.selector >> (16 * pair + 8) & 0xFFu;
    const std::uint32_t shared = min(min(first, second), 1u);
    own |= shared << (8 + 2 * lane + pair);
    own |= ((first - shared) | (second - shared) << 1) << (16 + 4 * lane + 2 * pair);
  }
  const std::uint32_t code = isnan(run.scale) ? 0xFFu : (__float_as_uint(run.scale) >> 21) - (79u << 2);
  return block_or(own, p.lanes) | code;
}

// The scale of block `block`, with its selector, as the format stores it; by the lanes with `write`. All lanes call it.
template <Policy kPolicy>
__device__ inline void store_packed_scale(const Operand& p, std::uint64_t block, const RunIndices& run, bool write) {
  if constexpr (kPolicy == Policy::kTwoLevel) {
    const std::uint32_t word = packed_two_level(p, run);
    if (write) reinterpret_cast<std::uint32_t*>(p.packed_scales)[block] = word;
  } else if constexpr (!has_scale_bytes(kPolicy)) {
    if (write) reinterpret_cast<float*>(p.packed_scales)[block] = run.scale;
  } else {
    std::uint32_t byte;
    if constexpr (kPolicy == Policy::kInteger) {
      byte = static_cast<std::uint32_t>(static_cast<int>(run.scale));
    } else if constexpr (is_power(kPolicy)) {
      byte = __float_as_uint(run.scale) >> 23;  // 0 for 2^-127, 255 for NaN
    } else {
      byte = e4m3_byte(run.scale);
      if (kPolicy == Policy::kBetter && p.has_selectors) byte |= run.selector << 7;
    }
    if (write) p.packed_scales[block] = static_cast<std::uint8_t>(byte);
  }
}

// The selectors of a run: that of its block, by the first run, or those of its four parts.
template <Policy kPolicy, Span kSpan>
__device__ inline void store_selectors(const Operand& p, std::uint64_t at, std::uint64_t block, const RunIndices& run) {
  if constexpr (kPolicy == Policy::kTwoLevel) {
    reinterpret_cast<std::uint32_t*>(p.selectors)[at] = run.selector;
  } else if constexpr (kPolicy == Policy::kBetter) {
    if (first_of_block<kSpan>(p)) p.selectors[block] = static_cast<std::uint8_t>(run.selector);
  }
}

// Every result that is asked for.
template <Policy kPolicy, bool kStochastic, Span kSpan>
__device__ inline void store_any(const Operand& p, std::uint64_t at, const RunIndices& run, const Running& running,
                                 bool write) {
  constexpr bool kApart = kPolicy == Policy::kInteger;
  constexpr bool kOuter = kPolicy == Policy::kWindow || kApart || is_relative(kPolicy);
  const uint2 codes = codes_of<kPolicy, kStochastic, Output::kAny>(run, p);
  if (p.codes != nullptr && write) reinterpret_cast<uint2*>(p.codes)[at] = codes;
  const std::uint64_t block = kSpan == Span::kOneRun ? at : at >> p.lanes_shift;
  const bool write_scale = write && first_of_block<kSpan>(p);
  // The second-level scales of parts go into the scale, the tensor's and what stays apart into the values.
  const bool parts = kOuter && !kApart && p.outer_parts;
  const float scale = parts && !isnan(run.scale) ? run.scale * running.outer.scale : run.scale;
  if (p.scales != nullptr && write_scale) p.scales[block] = scale;
  if (p.packed_scales != nullptr) store_packed_scale<kPolicy>(p, block, run, write_scale);
  if (p.selectors != nullptr && write) store_selectors<kPolicy, kSpan>(p, at, block, run);
  if constexpr (kApart) {
    if (p.int8 != nullptr) {
      const uint4 bytes = int8_of<kStochastic, Output::kAny>(run);
      if (write) reinterpret_cast<uint4*>(p.int8)[at] = bytes;
    }
  }
  if (p.dequantized == nullptr && p.e4m3 == nullptr) return;
  constexpr bool kLookUp = levels_of(kPolicy) != Levels::kUniform && levels_of(kPolicy) != Levels::kIntegers;
  const auto values = [&](float by, float(&v)[kRun]) {
    if constexpr (kLookUp) {
      look_up<kPolicy == Policy::kBetter>(codes, by, running.lane_value, p.has_selectors ? run.selector : 0, v);
    } else {
      values_of<kPolicy, kStochastic, Output::kAny>(run, by, p, v);
    }
  };
  float v[kRun];
  if constexpr (kPolicy == Policy::kWindow) {
    if (p.e4m3 != nullptr) {
      values(run.scale, v);
      if (write) store_e4m3_run(p.e4m3 + at * kRun, v, isnan(run.scale));
    }
    if (p.dequantized == nullptr) return;
  }
  values(scale, v);
  if constexpr (kOuter) {
    const float outer = parts ? 1.0F : running.outer.scale;
#pragma unroll
    for (int i = 0; i < kRun; ++i) v[i] *= outer;
  }
  const float nan_where = kApart ? running.outer.scale : run.scale;
  store_values(p.dequantized, p.dequantized_f32, static_cast<std::int64_t>(at) * kRun, v, nan_where, write);
}

// Writes the results of a run of a row. All lanes call it; those with `write` store.
template <Policy kPolicy, bool kStochastic, Span kSpan, Output kOutput>
__device__ inline void store_run(const Operand& p, std::uint32_t row, std::uint32_t run, const RunIndices& result,
                                 const Running& running, bool write) {
  if constexpr (only_measures(kPolicy)) return;
  const std::uint64_t at = std::uint64_t{row} * p.runs_per_row + run;
  if constexpr (kOutput == Output::kAny) return store_any<kPolicy, kStochastic, kSpan>(p, at, result, running, write);
  if constexpr (kOutput == Output::kPacked) {
    const uint2 codes = codes_of<kPolicy, kStochastic, kOutput>(result, p);
    if (write) reinterpret_cast<uint2*>(p.codes)[at] = codes;
    const std::uint64_t block = kSpan == Span::kOneRun ? at : at >> p.lanes_shift;
    const bool write_scale = write && first_of_block<kSpan>(p);
    if constexpr (has_scale_bytes(kPolicy)) {
      store_packed_scale<kPolicy>(p, block, result, write_scale);
    } else {
      if (write_scale) p.scales[block] = result.scale;
    }
  } else if constexpr (kOutput == Output::kInt8) {
    const uint4 bytes = int8_of<kStochastic, kOutput>(result);
    if (write) reinterpret_cast<uint4*>(p.int8)[at] = bytes;
  } else if constexpr (kOutput == Output::kE4m3) {
    const uint4 bytes = e4m3_of<kStochastic>(result);
    if (write) reinterpret_cast<uint4*>(p.e4m3)[at] = bytes;
  } else {
    float v[kRun];
    values_of<kPolicy, kStochastic, kOutput>(result, result.scale, p, v);
    if constexpr (kPolicy == Policy::kWindow || kPolicy == Policy::kInteger || is_relative(kPolicy)) {
#pragma unroll
      for (int i = 0; i < kRun; ++i) v[i] *= running.outer.scale;
    }
    const float nan_where = kPolicy == Policy::kInteger ? running.outer.scale : result.scale;
    store_bf16_run<!kStochastic>(p.dequantized, static_cast<std::int64_t>(at) * kRun, v, nan_where, write);
  }
}

}  // namespace ufp4::cuda
