// Philox4x32-10, one counter a lane.
#include "cpu/lanes-inl.h"

#if defined(UFP4_CPU_PHILOX_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef UFP4_CPU_PHILOX_INL_H_
#undef UFP4_CPU_PHILOX_INL_H_
#else
#define UFP4_CPU_PHILOX_INL_H_
#endif

#include "cpu/job.h"
#include "numerics/philox.h"

HWY_BEFORE_NAMESPACE();
namespace ufp4::cpu::HWY_NAMESPACE {

// The operand's coordinates of the first element of each lane, offsets added.
struct Coordinates {
  VU row;
  VU column;
};

// The counters of every second lane, each in 64 bits. The upper half is never read: a vector multiplication of 32-bit
// numbers reads the lower half of each 64 bits.
struct PhiloxHalf {
  VU c0, c1, c2, c3;

  HWY_INLINE void round(VU multiplier0, VU multiplier1, VU key0, VU key1) {
    const U32 u;
    const auto p0 = hn::MulEven(multiplier0, c0);
    const auto p1 = hn::MulEven(multiplier1, c2);
    c0 = hn::Xor3(hn::BitCast(u, hn::ShiftRight<32>(p1)), c1, key0);
    c1 = hn::BitCast(u, p1);
    c2 = hn::Xor3(hn::BitCast(u, hn::ShiftRight<32>(p0)), c3, key1);
    c3 = hn::BitCast(u, p0);
  }
};

HWY_INLINE VU upper_to_lower(VU v) {
  return hn::BitCast(U32(), hn::ShiftRight<32>(hn::BitCast(hn::ScalableTag<std::uint64_t>(), v)));
}

HWY_INLINE VU join_halves(VU even, VU odd) {
  const VU raised = hn::BitCast(U32(), hn::ShiftLeft<32>(hn::BitCast(hn::ScalableTag<std::uint64_t>(), odd)));
  return hn::OddEven(raised, even);
}

// The state after the first round, which is cheaper than the others: step and stream are the same in all lanes.
HWY_INLINE PhiloxHalf first_round(const Job& job, VU group, VU row) {
  const U32 u;
  const auto p0 = hn::MulEven(hn::Set(u, philox::kMultiplier0), group);
  const std::uint64_t p1 = std::uint64_t{philox::kMultiplier1} * job.place.step;
  return {hn::Xor(row, hn::Set(u, static_cast<std::uint32_t>(p1 >> 32) ^ job.keys[0][0])),
          hn::Set(u, static_cast<std::uint32_t>(p1)),
          hn::Xor(hn::BitCast(u, hn::ShiftRight<32>(p0)), hn::Set(u, job.place.stream ^ job.keys[0][1])),
          hn::BitCast(u, p0)};
}

// The words of kGroups groups of eight elements each; their rounds alternate, as each waits for the one before.
template <int kGroups>
HWY_INLINE void philox_words(const Job& job, const VU* HWY_RESTRICT group, VU row, VU* HWY_RESTRICT words) {
  const U32 u;
  PhiloxHalf half[2 * kGroups];
  UFP4_UNROLL
  for (int i = 0; i < kGroups; ++i) {
    half[2 * i] = first_round(job, group[i], row);
    half[2 * i + 1] = first_round(job, upper_to_lower(group[i]), upper_to_lower(row));
  }
  const VU multiplier0 = hn::Set(u, philox::kMultiplier0);
  const VU multiplier1 = hn::Set(u, philox::kMultiplier1);
  UFP4_UNROLL
  for (std::size_t round = 1; round < philox::kRounds; ++round) {
    const VU key0 = hn::Set(u, job.keys[round][0]);
    const VU key1 = hn::Set(u, job.keys[round][1]);
    UFP4_UNROLL
    for (int i = 0; i < 2 * kGroups; ++i) half[i].round(multiplier0, multiplier1, key0, key1);
  }
  UFP4_UNROLL
  for (int i = 0; i < kGroups; ++i) {
    const PhiloxHalf& even = half[2 * i];
    const PhiloxHalf& odd = half[2 * i + 1];
    words[4 * i] = join_halves(even.c0, odd.c0);
    words[4 * i + 1] = join_halves(even.c1, odd.c1);
    words[4 * i + 2] = join_halves(even.c2, odd.c2);
    words[4 * i + 3] = join_halves(even.c3, odd.c3);
  }
}

// The 16-bit numbers of the elements first .. first + 15 of each lane, two a word; `first` is a multiple of 16.
inline HWY_NOINLINE void draw_words(const Job& job, const Coordinates& at, int first, VU* HWY_RESTRICT draws) {
  const U32 u;
  const auto shift = static_cast<int>(job.place.column_offset & 7u);
  VU group[3];
  UFP4_UNROLL
  for (int i = 0; i < 3; ++i) {
    group[i] = hn::ShiftRight<3>(hn::Add(at.column, hn::Set(u, static_cast<std::uint32_t>(first + 8 * i))));
  }
  if (HWY_LIKELY(shift == 0)) return philox_words<2>(job, group, at.row, draws);
  // The matrix is a shard that begins within a group: a run touches three groups instead of two.
  VU words[12];
  philox_words<2>(job, group, at.row, words);
  philox_words<1>(job, group + 2, at.row, words + 8);
  for (int i = 0; i < kRun / 2; ++i) {
    const VU* from = words + i + shift / 2;
    draws[i] = shift % 2 == 0 ? from[0] : hn::Or(hn::ShiftRight<16>(from[0]), hn::ShiftLeft<16>(from[1]));
  }
}

}  // namespace ufp4::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // UFP4_CPU_PHILOX_INL_H_
