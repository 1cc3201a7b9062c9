// From transformed values to scales and packed codes. docs/numerics.md says what; the comments here say why another
// order of exact steps gives the same bits.
#include "cpu/philox-inl.h"

#if defined(UFP4_CPU_CODES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef UFP4_CPU_CODES_INL_H_
#undef UFP4_CPU_CODES_INL_H_
#else
#define UFP4_CPU_CODES_INL_H_
#endif

#include <limits>

HWY_BEFORE_NAMESPACE();
namespace ufp4::cpu::HWY_NAMESPACE {

// How levels lie and how the scale is chosen.
enum class Grid : std::uint8_t { kUniform, kFull, kStretches };

// Adding this to a float below 2^22 in magnitude rounds it to an integer, ties to even, and leaves the integer in the
// low bits of the sum.
inline constexpr float kRounder = 0x1.8p23F;
inline constexpr std::uint32_t kRounderBits = 0x4B400000u;
inline constexpr std::uint32_t kSignBit = 0x80000000u;
inline constexpr std::uint32_t kInfinityBits = 0x7F800000u;
// Eight 4-bit numbers in a word: a one in each of them, and the sign bit of each.
inline constexpr std::uint32_t kNibbleOnes = 0x11111111u;
inline constexpr std::uint32_t kNibbleSigns = 0x88888888u;

HWY_INLINE VF magnitude_of(VU bits) { return hn::BitCast(F32(), hn::And(bits, hn::Set(U32(), ~kSignBit))); }

// Nearest codes of eight elements on a uniform grid, in two's complement. `factor` brings a value to steps. Under the
// amax rule neither |t| nor the result needs a bound: t exceeds the largest level by less than a millionth, which
// rounds to it.
template <bool kBounded>
HWY_INLINE VU nearest_word(const Job& job, const VF* HWY_RESTRICT x, VF factor) {
  const U32 u;
  const VF rounder = hn::Set(F32(), kRounder);
  VU part[8];
  UFP4_UNROLL
  for (int i = 0; i < 8; ++i) {
    VF t = hn::Mul(x[i], factor);
    if constexpr (kBounded) {
      t = hn::Min(hn::Max(t, hn::Set(F32(), -job.negative_limit)), hn::Set(F32(), job.limit));
    }
    part[i] = hn::BitCast(u, hn::Add(t, rounder));
  }
  // The sum over i of integer_i * 16^i and of the constant kRounderBits * 16^i, modulo 2^32.
  UFP4_UNROLL
  for (int i = 0; i < 8; i += 2) part[i] = hn::Add(part[i], hn::ShiftLeft<4>(part[i + 1]));
  UFP4_UNROLL
  for (int i = 0; i < 8; i += 4) part[i] = hn::Add(part[i], hn::ShiftLeft<8>(part[i + 2]));
  const VU sum = hn::Add(part[0], hn::ShiftLeft<16>(part[4]));
  // Adding 8 to every integer leaves no nibble negative; flipping that bit makes two's complement of it.
  return hn::Xor(hn::Add(sum, hn::Set(u, kNibbleSigns - kRounderBits * kNibbleOnes)), hn::Set(u, kNibbleSigns));
}

// Two's complement -7..7 to sign and magnitude: where negative, the low bits are flipped and 1 is added.
HWY_INLINE VU to_sign_magnitude(VU codes) {
  const VU sign = hn::And(codes, hn::Set(U32(), kNibbleSigns));
  const VU ones = hn::ShiftRight<3>(sign);
  return hn::Add(hn::Xor(codes, hn::Sub(sign, ones)), ones);
}

// Indices of levels and sign bits (bit 3 of each nibble) to codes; a zero has no sign.
HWY_INLINE VU join_sign(VU index, VU sign, CodeKind kind) {
  VU any = hn::Or(index, hn::ShiftRight<1>(index));
  any = hn::Or(any, hn::ShiftRight<2>(any));
  sign = hn::And(sign, hn::ShiftLeft<3>(any));
  if (kind == CodeKind::kSignMagnitude) return hn::Or(index, sign);
  const VU ones = hn::ShiftRight<3>(sign);
  const VU flip = hn::Sub(hn::Add(sign, sign), ones);  // 15 in negative nibbles
  return hn::Add(hn::Xor(index, flip), ones);
}

// The smallest integer that is at least a, in the low bits of the result: `integer` is kRounder or little more.
HWY_INLINE VF add_upward(VF a, VF integer) {
#if HWY_TARGET <= HWY_AVX3
  return VF{_mm512_add_round_ps(a.raw, integer.raw, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC)};
#else
  return hn::Add(hn::Ceil(a), integer);
#endif
}

// `first` where magnitude < lattice.from[1], and so on.
template <class V>
HWY_INLINE V choose_stretch(const Job& job, VF magnitude, V first, V second, V third) {
  const hn::DFromV<V> d;
  const F32 f;
  V chosen = hn::IfThenElse(hn::RebindMask(d, hn::Ge(magnitude, hn::Set(f, job.lattice.from[1]))), second, first);
  return hn::IfThenElse(hn::RebindMask(d, hn::Ge(magnitude, hn::Set(f, job.lattice.from[2]))), third, chosen);
}

// Codes of eight elements by index and sign: for stretches, and for stochastic rounding. `draws` holds two numbers n a
// word.
template <Grid kGrid, bool kStochastic, bool kBounded>
HWY_INLINE VU magnitude_word(const Job& job, const VF* HWY_RESTRICT x, VF factor, const VU* HWY_RESTRICT draws) {
  const U32 u;
  const F32 f;
  const Lattice& lattice = job.lattice;
  VU indices = hn::Zero(u);
  VU signs = hn::Zero(u);
  UFP4_UNROLL
  for (int i = 0; i < 8; ++i) {
    const VU bits = hn::BitCast(u, hn::Mul(x[i], factor));
    VF magnitude = magnitude_of(bits);
    if constexpr (kBounded) {
      const float unit = kStochastic && kGrid != Grid::kStretches ? 0x1p16F : 1.0F;
      VF limit = hn::Set(f, job.limit * unit);
      if constexpr (kGrid == Grid::kFull) {
        const auto is_negative = hn::RebindMask(f, hn::Lt(hn::BitCast(I32(), bits), hn::Zero(I32())));
        limit = hn::IfThenElse(is_negative, hn::Set(f, job.negative_limit * unit), limit);
      }
      magnitude = hn::Min(magnitude, limit);
    }
    VU index;  // in the top nibble
    if constexpr (!kStochastic) {
      // Rounds to multiples of the stretch's step; the offset, even, rides along.
      const VF rounder = choose_stretch(job, magnitude, hn::Set(f, lattice.rounder[0]), hn::Set(f, lattice.rounder[1]),
                                        hn::Set(f, lattice.rounder[2]));
      index = hn::ShiftLeft<28>(hn::BitCast(u, hn::Add(magnitude, rounder)));
    } else {
      // F = 65536 (t - q_lo) / (q_hi - q_lo). The rule n + 0.5 < F says n < J with J = ceil(F - 0.5), so the index is
      // floor((65536 q_lo + J + 65535 - n) / 65536), and ceil takes the whole of t as well as its fraction.
      VU offset = hn::Zero(u);
      if constexpr (kGrid == Grid::kStretches) {
        const VF whole = magnitude;
        magnitude = hn::Mul(whole, choose_stretch(job, whole, hn::Set(f, lattice.rate[0]), hn::Set(f, lattice.rate[1]),
                                                  hn::Set(f, lattice.rate[2])));
        offset = choose_stretch(job, whole, hn::Set(u, lattice.offset16[0]), hn::Set(u, lattice.offset16[1]),
                                hn::Set(u, lattice.offset16[2]));
      }
      const VU n = i % 2 == 0 ? hn::And(draws[i / 2], hn::Set(u, 0xFFFFu)) : hn::ShiftRight<16>(draws[i / 2]);
      const VF half_less = hn::Sub(magnitude, hn::Set(f, 0.5F));
      VU sum = hn::Sub(hn::BitCast(u, add_upward(half_less, hn::Set(f, kRounder + 65535))), n);
      if constexpr (kGrid == Grid::kStretches) sum = hn::Add(sum, offset);
      index = hn::ShiftLeft<12>(sum);
    }
    if constexpr (kGrid == Grid::kFull) {
      indices = hn::OrAnd(hn::ShiftRight<4>(indices), index, hn::Set(u, 0xF0000000u));
      signs = hn::OrAnd(hn::ShiftRight<4>(signs), bits, hn::Set(u, kSignBit));
    } else {
      // An index is at most 7: the sign fits beside it.
      indices = hn::OrAnd(hn::ShiftRight<4>(indices), index, hn::Set(u, 0x70000000u));
      indices = hn::OrAnd(indices, bits, hn::Set(u, kSignBit));
    }
  }
  if constexpr (kGrid != Grid::kFull) {
    signs = hn::And(indices, hn::Set(u, kNibbleSigns));
    indices = hn::Xor(indices, signs);
  }
  return join_sign(indices, signs, job.code_kind);
}

// What the factor of the values contains besides 1 / scale: it brings them to steps, and for stochastic rounding to the
// 2^16 parts of a step that F above counts.
template <Grid kGrid, bool kStochastic>
HWY_INLINE float factor_unit(const Job& job) {
  return job.inverse_unit * (kStochastic && kGrid != Grid::kStretches ? 0x1p16F : 1.0F);
}

// The scale from the largest positive and the largest negative magnitude, and unit / scale, computed as L * unit / amax
// for a one-sided scale. Where all is zero the factor is not meaningful.
template <Grid kGrid>
HWY_INLINE void make_scale(const Job& job, VF positive, VF negative, float unit, VF& scale, VF& factor) {
  const F32 f;
  if constexpr (kGrid == Grid::kFull) {
    const VF eighth = hn::Set(f, 0.125F);
    const VF seven = hn::Set(f, 7.0F);
    const VF a = hn::Max(hn::Mul(positive, eighth), hn::Div(negative, seven));
    const VF b = hn::Max(hn::Mul(negative, eighth), hn::Div(positive, seven));
    scale = hn::IfThenElse(hn::Lt(a, b), hn::Neg(a), b);
    factor = hn::Div(hn::Set(f, unit), scale);
  } else {
    const VF amax = hn::Max(positive, negative);
    scale = hn::Div(amax, hn::Set(f, job.largest));
    factor = hn::Div(hn::Set(f, job.largest * unit), amax);
  }
}

template <Grid kGrid, bool kStochastic, bool kBounded>
HWY_INLINE void make_codes(const Job& job, const VF* HWY_RESTRICT x, int runs, VF factor, const Coordinates& at,
                           int first, VU* HWY_RESTRICT words) {
  for (int run = 0; run < runs; ++run) {
    VU draws[kRun / 2];
    if constexpr (kStochastic) draw_words(job, at, first + run * kRun, draws);
    UFP4_UNROLL
    for (int half = 0; half < 2; ++half) {
      const VF* eight = x + run * kRun + half * 8;
      VU& word = words[run * 2 + half];
      if constexpr (kStochastic || kGrid == Grid::kStretches) {
        word = magnitude_word<kGrid, kStochastic, kBounded>(job, eight, factor, draws + half * 4);
      } else {
        word = nearest_word<kBounded>(job, eight, factor);
        if (job.code_kind == CodeKind::kSignMagnitude) word = to_sign_magnitude(word);
      }
    }
  }
}

// The largest positive and the largest negative magnitude of a block of each lane, or zero.
struct Extremes {
  VF positive;
  VF negative;
};

HWY_INLINE Extremes find_extremes(const VF* HWY_RESTRICT x, int runs) {
  const U32 u;
  const I32 i32;
  const F32 f;
  // As integers, the positive floats come in their order, the negative ones in the order of their magnitudes and beyond
  // all positive ones if unsigned. A NaN is beyond infinity either way.
  VI most_positive = hn::Zero(i32);
  VU most_negative = hn::Zero(u);
  for (int run = 0; run < runs; ++run) {
    const VF* value = x + run * kRun;
    UFP4_UNROLL
    for (int i = 0; i < kRun; i += 2) {
      most_positive = hn::Max(most_positive, hn::Max(hn::BitCast(i32, value[i]), hn::BitCast(i32, value[i + 1])));
      most_negative = hn::Max(most_negative, hn::Max(hn::BitCast(u, value[i]), hn::BitCast(u, value[i + 1])));
    }
  }
  const VU is_negative = hn::BitCast(u, hn::ShiftRight<31>(hn::BitCast(i32, most_negative)));
  const VU negative = hn::And(hn::And(most_negative, hn::Set(u, ~kSignBit)), is_negative);
  return {hn::BitCast(f, most_positive), hn::BitCast(f, negative)};
}

// The extremes with the factor of the transform that the loads leave out.
HWY_INLINE Extremes with_late_factor(const Job& job, const Extremes& extremes) {
  const VF late = hn::Set(F32(), job.late_factor);
  return {hn::Mul(extremes.positive, late), hn::Mul(extremes.negative, late)};
}

// Any block: with NaN or infinity, with scales near the ends of FP32, of zeros.
template <Grid kGrid, bool kStochastic>
HWY_NOINLINE void quantize_any_block(const Job& job, const VF* HWY_RESTRICT x, int runs, const Coordinates& at,
                                     int first, VU* HWY_RESTRICT words, VF& scale) {
  const U32 u;
  const F32 f;
  const VF late = hn::Set(f, job.late_factor);
  const auto [positive, negative] = with_late_factor(job, find_extremes(x, runs));
  const VU amax_bits = hn::Max(hn::BitCast(u, positive), hn::BitCast(u, negative));
  const VF amax = hn::BitCast(f, amax_bits);
  const auto finite = hn::RebindMask(f, hn::Lt(hn::BitCast(I32(), amax_bits), hn::Set(I32(), kInfinityBits)));
  const auto zero = hn::Lt(amax, hn::Set(f, 0x1p-120F));

  // The factor of a small block would overflow with its unit: the values take 2^32 of it.
  const auto small = hn::Lt(amax, hn::Set(f, 0x1p-90F));
  const VF one = hn::Set(f, 1.0F);
  const VF raise = hn::IfThenElse(small, hn::Set(f, 0x1p32F), one);
  VF factor;
  make_scale<kGrid>(job, positive, negative, 1.0F, scale, factor);
  factor = hn::Mul(hn::Mul(factor, hn::IfThenElse(small, hn::Set(f, 0x1p-32F), one)),
                   hn::Set(f, factor_unit<kGrid, kStochastic>(job)));
  factor = hn::IfThenZeroElse(zero, factor);
  scale = hn::IfThenZeroElse(zero, scale);
  scale = hn::IfThenElse(finite, scale, hn::Set(f, std::numeric_limits<float>::quiet_NaN()));

  VF value[kRun];
  for (int run = 0; run < runs; ++run) {
    for (int i = 0; i < kRun; ++i) value[i] = hn::Mul(hn::Mul(x[run * kRun + i], late), raise);
    make_codes<kGrid, kStochastic, false>(job, value, 1, factor, at, first + run * kRun, words + run * 2);
  }
  for (int i = 0; i < 2 * runs; ++i) words[i] = hn::IfThenElseZero(hn::RebindMask(u, finite), words[i]);
}

// The scale of a block and the factor of its codes; false if a lane needs quantize_any_block instead.
template <Grid kGrid, bool kStochastic>
HWY_INLINE bool scale_block(const Job& job, const Extremes& extremes, VF& scale, VF& factor) {
  const F32 f;
  const I32 i32;
  const VI positive = hn::BitCast(i32, extremes.positive);
  const VF amax = hn::BitCast(f, hn::Max(positive, hn::BitCast(i32, extremes.negative)));
  const auto zero = hn::Eq(amax, hn::Zero(f));
  make_scale<kGrid>(job, extremes.positive, extremes.negative, factor_unit<kGrid, kStochastic>(job), scale, factor);
  scale = hn::Mul(scale, hn::Set(f, job.late_factor));
  factor = hn::IfThenZeroElse(zero, factor);
  // Far from the ends of FP32 the power of two of the transform commutes with every rounding, and so does the unit:
  // what becomes subnormal on one side only is below 2^-20 steps and rounds to zero on both.
  const auto usual = hn::And(hn::Ge(amax, hn::Set(f, 0x1p-100F)), hn::Le(amax, hn::Set(f, 0x1p100F)));
  return hn::AllTrue(f, hn::Or(zero, usual));
}

}  // namespace ufp4::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // UFP4_CPU_CODES_INL_H_
