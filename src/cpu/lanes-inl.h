// Moving words between memory and lanes, each of which works on a unit of the operand.
#include "hwy/highway.h"

#if defined(UFP4_CPU_LANES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef UFP4_CPU_LANES_INL_H_
#undef UFP4_CPU_LANES_INL_H_
#else
#define UFP4_CPU_LANES_INL_H_
#endif

#include <cstddef>
#include <cstdint>

// The portable target has no registers that unrolling would use; it would only take minutes to compile.
#undef UFP4_UNROLL
#if HWY_TARGET == HWY_EMU128
#define UFP4_UNROLL
#else
#define UFP4_UNROLL _Pragma("GCC unroll 16")
#endif

HWY_BEFORE_NAMESPACE();
namespace ufp4::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using U32 = hn::ScalableTag<std::uint32_t>;
using I32 = hn::ScalableTag<std::int32_t>;
using F32 = hn::ScalableTag<float>;
using VU = hn::Vec<U32>;
using VI = hn::Vec<I32>;
using VF = hn::Vec<F32>;

inline constexpr std::size_t kLanes = HWY_LANES(std::uint32_t);

constexpr int log2(std::size_t n) { return n <= 1 ? 0 : 1 + log2(n / 2); }

// Vectors may start at any byte: the element type of a pointer only says what a lane is.
HWY_INLINE VU load_words(const std::uint8_t* from) {
  return hn::LoadU(U32(), reinterpret_cast<const std::uint32_t*>(from));
}
HWY_INLINE void store_words(VU v, std::uint8_t* to) { hn::StoreU(v, U32(), reinterpret_cast<std::uint32_t*>(to)); }

// Transposes lanes x words to words x lanes. `v` is one sequence of words; a stage interleaves its two halves, which
// rotates the bits of every word's index by one place. After as many stages as the number of words of a lane has bits,
// the bits that named the lane have changed places with those that named the word.
template <int kVectors, int kStages>
HWY_INLINE void rotate_index(VU* HWY_RESTRICT v) {
  static_assert(kVectors >= 2);
  UFP4_UNROLL
  for (int stage = 0; stage < kStages; ++stage) {
    VU next[kVectors];
    UFP4_UNROLL
    for (int i = 0; i < kVectors / 2; ++i) {
      next[i] = hn::ConcatEven(U32(), v[2 * i + 1], v[2 * i]);
      next[i + kVectors / 2] = hn::ConcatOdd(U32(), v[2 * i + 1], v[2 * i]);
    }
    UFP4_UNROLL
    for (int i = 0; i < kVectors; ++i) v[i] = next[i];
  }
}

#if HWY_TARGET <= HWY_AVX3
// load_lanes<8> of which only the last of three steps moves words between the 128-bit quarters of a vector, the slowest
// way to move them. Vectors 0..3 therefore begin as the lanes i and i + 4, vectors 4..7 as the lanes i + 4 and i + 8.
HWY_INLINE void load_lanes_of_eight(const std::uint8_t* HWY_RESTRICT from, std::size_t stride, VU* HWY_RESTRICT v) {
  const U32 u32;
  const hn::ScalableTag<std::uint64_t> u64;
  const hn::Half<U32> half;
  // Word i of each lane in the even quarters, word 4 + i in the odd ones.
  VU mixed[8];
  UFP4_UNROLL
  for (std::size_t first = 0; first < 8; first += 4) {
    hn::Vec<hn::ScalableTag<std::uint64_t>> pair[4];
    UFP4_UNROLL
    for (std::size_t i = 0; i < 4; i += 2) {
      VU row[2];
      UFP4_UNROLL
      for (std::size_t k = 0; k < 2; ++k) {
        const std::uint8_t* lower = from + (2 * first + i + k) * stride;
        row[k] = hn::Combine(u32, hn::LoadU(half, reinterpret_cast<const std::uint32_t*>(lower + 4 * stride)),
                             hn::LoadU(half, reinterpret_cast<const std::uint32_t*>(lower)));
      }
      pair[i] = hn::BitCast(u64, hn::InterleaveLower(u32, row[0], row[1]));
      pair[i + 1] = hn::BitCast(u64, hn::InterleaveUpper(u32, row[0], row[1]));
    }
    UFP4_UNROLL
    for (std::size_t i = 0; i < 2; ++i) {
      mixed[first + 2 * i] = hn::BitCast(u32, hn::InterleaveLower(u64, pair[i], pair[i + 2]));
      mixed[first + 2 * i + 1] = hn::BitCast(u32, hn::InterleaveUpper(u64, pair[i], pair[i + 2]));
    }
  }
  UFP4_UNROLL
  for (int i = 0; i < 4; ++i) {
    v[i] = VU{_mm512_shuffle_i32x4(mixed[i].raw, mixed[4 + i].raw, 0x88)};
    v[4 + i] = VU{_mm512_shuffle_i32x4(mixed[i].raw, mixed[4 + i].raw, 0xDD)};
  }
}
#endif

// Loads kWords words of each lane; a lane begins `stride` bytes after the one before. v[i] receives word i of all
// lanes.
template <int kWords>
HWY_INLINE void load_lanes(const std::uint8_t* HWY_RESTRICT from, std::size_t stride, VU* HWY_RESTRICT v) {
#if HWY_TARGET <= HWY_AVX3
  if constexpr (kWords == 8) return load_lanes_of_eight(from, stride, v);
#endif
  if constexpr (kWords <= kLanes) {
    constexpr std::size_t kPieces = kLanes / kWords;
    static_assert(kPieces <= 2);
    if (kPieces == 1 || stride == kWords * sizeof(std::uint32_t)) {
      UFP4_UNROLL
      for (std::size_t i = 0; i < kWords; ++i) v[i] = load_words(from + i * kPieces * stride);
    } else {
      const hn::Half<U32> half;
      UFP4_UNROLL
      for (std::size_t i = 0; i < kWords; ++i) {
        const auto* lower = reinterpret_cast<const std::uint32_t*>(from + 2 * i * stride);
        const auto* upper = reinterpret_cast<const std::uint32_t*>(from + (2 * i + 1) * stride);
        v[i] = hn::Combine(U32(), hn::LoadU(half, upper), hn::LoadU(half, lower));
      }
    }
    rotate_index<kWords, log2(kWords)>(v);
  } else {
    UFP4_UNROLL
    for (std::size_t part = 0; part < kWords; part += kLanes) {
      load_lanes<kLanes>(from + part * sizeof(std::uint32_t), stride, v + part);
    }
  }
}

// Stores kWords words of each lane, lane after lane: the inverse of load_lanes. Overwrites `v`.
template <int kWords>
HWY_INLINE void store_lanes(VU* HWY_RESTRICT v, std::uint8_t* HWY_RESTRICT to, std::size_t stride) {
  if constexpr (kWords == 1) {
    store_words(v[0], to);
  } else if constexpr (kWords == 2) {
    hn::StoreInterleaved2(v[0], v[1], U32(), reinterpret_cast<std::uint32_t*>(to));
  } else if constexpr (kWords <= kLanes) {
    rotate_index<kWords, log2(kLanes)>(v);
    for (std::size_t i = 0; i < kWords; ++i) store_words(v[i], to + i * kLanes / kWords * stride);
  } else {
    UFP4_UNROLL
    for (std::size_t part = 0; part < kWords; part += kLanes) {
      store_lanes<kLanes>(v + part, to + part * sizeof(std::uint32_t), stride);
    }
  }
}

}  // namespace ufp4::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // UFP4_CPU_LANES_INL_H_
