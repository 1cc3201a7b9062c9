// From the matrix to transformed FP32 values: sixteen elements of every lane at a time.
#include "cpu/lanes-inl.h"

#if defined(UFP4_CPU_LOAD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef UFP4_CPU_LOAD_INL_H_
#undef UFP4_CPU_LOAD_INL_H_
#else
#define UFP4_CPU_LOAD_INL_H_
#endif

#include "cpu/job.h"
#include "hwy/cache_control.h"

HWY_BEFORE_NAMESPACE();
namespace ufp4::cpu::HWY_NAMESPACE {

// The FP32 value of binary16 bits in the low half of each word; the upper half is zero.
HWY_INLINE VF expand_f16(VU half) {
  const U32 u;
  const VU sign = hn::ShiftLeft<16>(hn::And(half, hn::Set(u, 0x8000u)));
  const VU magnitude = hn::And(half, hn::Set(u, 0x7FFFu));
  const VU bits = hn::ShiftLeft<13>(magnitude);
  const VU normal = hn::Add(bits, hn::Set(u, 112u << 23));
  const VU infinite = hn::Add(bits, hn::Set(u, 224u << 23));
  // 2^-14 plus the subnormal has its bits as mantissa; the difference is exact.
  const VF smallest = hn::Set(F32(), 0x1p-14F);
  const VF subnormal = hn::Sub(hn::BitCast(F32(), hn::Add(bits, hn::Set(u, 113u << 23))), smallest);
  const I32 i;
  const VI order = hn::BitCast(i, magnitude);
  VU value = hn::IfThenElse(hn::RebindMask(u, hn::Gt(hn::Set(i, 0x400), order)), hn::BitCast(u, subnormal), normal);
  value = hn::IfThenElse(hn::RebindMask(u, hn::Gt(order, hn::Set(i, 0x7BFF))), infinite, value);
  return hn::BitCast(F32(), hn::Or(value, sign));
}

// The two elements of a word, the first in the low half.
template <DType kInput>
HWY_INLINE void expand_pair(VU word, VF& first, VF& second) {
  const VU low_half = hn::Set(U32(), 0xFFFFu);
  if constexpr (kInput == DType::kBF16) {
    first = hn::BitCast(F32(), hn::ShiftLeft<16>(word));
    second = hn::BitCast(F32(), hn::AndNot(low_half, word));
  } else {
    first = expand_f16(hn::And(word, low_half));
    second = expand_f16(hn::ShiftRight<16>(word));
  }
}

// Elements run*16 .. run*16+15 of each lane, with the signs of the transform. Rows: a lane is a piece of a row.
template <DType kInput>
HWY_INLINE void load_row_run(const Job& job, const Span& span, int run, VF* HWY_RESTRICT x) {
  constexpr int kWords = kInput == DType::kF32 ? 16 : 8;
  VU word[kWords];
  load_lanes<kWords>(span.source + static_cast<std::size_t>(run * kWords) * sizeof(std::uint32_t), span.stride, word);
  const std::uint32_t* signs = job.word_signs.data() + run * kWords;
  UFP4_UNROLL
  for (int i = 0; i < kWords; ++i) {
    const VU value = hn::Xor(word[i], hn::Set(U32(), signs[i]));
    if constexpr (kInput == DType::kF32) {
      x[i] = hn::BitCast(F32(), value);
    } else {
      expand_pair<kInput>(value, x[2 * i], x[2 * i + 1]);
    }
  }
}

// How far to the right of the lanes at hand a column kernel asks for memory.
inline constexpr std::size_t kPrefetchBytes = 512;

// Columns: a lane is a piece of a column.
template <DType kInput>
HWY_INLINE void load_column_run(const Job& job, const Span& span, int run, VF* HWY_RESTRICT x) {
  const std::uint32_t* signs = job.element_signs.data() + run * kRun;
  const std::uint8_t* from = span.source + static_cast<std::size_t>(run * kRun) * span.stride;
  UFP4_UNROLL
  for (int i = 0; i < kRun; ++i) {
    const std::uint8_t* row = from + static_cast<std::size_t>(i) * span.stride;
    // The rows lie in different pages of memory, and processors fetch ahead within a page only.
    hwy::Prefetch(row + kPrefetchBytes);
    VF value;
    if constexpr (kInput == DType::kF32) {
      value = hn::LoadU(F32(), reinterpret_cast<const float*>(row));
    } else {
      const hn::Rebind<std::uint16_t, U32> u16;
      const VU word = hn::PromoteTo(U32(), hn::LoadU(u16, reinterpret_cast<const std::uint16_t*>(row)));
      value = kInput == DType::kBF16 ? hn::BitCast(F32(), hn::ShiftLeft<16>(word)) : expand_f16(word);
    }
    x[i] = hn::BitCast(F32(), hn::Xor(hn::BitCast(U32(), value), hn::Set(U32(), signs[i])));
  }
}

// a + b as a * 1 + b: some processors have units for multiply-add besides those for sums, and half of the sums go
// there. The product with 1 is exact, so that the bits are the same.
HWY_INLINE VF add_on_multiplier(VF a, VF b) {
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2
  return hn::MulAdd(a, hn::Set(F32(), 1.0F), b);
#else
  return hn::Add(a, b);
#endif
}

HWY_INLINE void butterfly(VF& a, VF& b) {
  const VF sum = add_on_multiplier(a, b);
  b = hn::Sub(a, b);
  a = sum;
}

template <int kStride>
HWY_INLINE void butterflies(VF* HWY_RESTRICT x) {
  UFP4_UNROLL
  for (int i = 0; i < kRun; ++i) {
    if ((i & kStride) == 0) butterfly(x[i], x[i + kStride]);
  }
}

// One run, with the strides of the transform that stay inside it.
template <bool kColumn, DType kInput>
HWY_INLINE void load_run(const Job& job, const Span& span, int run, VF* HWY_RESTRICT x) {
  if constexpr (kColumn) {
    load_column_run<kInput>(job, span, run, x);
  } else {
    load_row_run<kInput>(job, span, run, x);
  }
  if (job.transform != 0) {
    butterflies<1>(x);
    butterflies<2>(x);
    butterflies<4>(x);
    butterflies<8>(x);
  }
}

// A whole unit, transformed.
template <bool kColumn, DType kInput>
void load_unit(const Job& job, const Span& span, VF* HWY_RESTRICT x) {
  for (int run = 0; run < job.unit / kRun; ++run) {
    VF part[kRun];
    load_run<kColumn, kInput>(job, span, run, part);
    UFP4_UNROLL
    for (int i = 0; i < kRun; ++i) x[run * kRun + i] = part[i];
  }
  for (int stride = kRun; stride < job.transform; stride *= 2) {
    for (int first = 0; first < job.unit; first += 2 * stride) {
      for (int i = first; i < first + stride; ++i) butterfly(x[i], x[i + stride]);
    }
  }
  if (job.early_factor != 1) {
    const VF factor = hn::Set(F32(), job.early_factor);
    for (int i = 0; i < job.unit; ++i) x[i] = hn::Mul(x[i], factor);
  }
}

}  // namespace ufp4::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // UFP4_CPU_LOAD_INL_H_
