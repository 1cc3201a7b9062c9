// Compiled once for every instruction set that the compiler knows.
#include "analysis/code_sums.h"

#include <algorithm>
#include <cstring>
#include <tuple>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "analysis/code_sums.cpp"  // NOLINT(bugprone-suspicious-include): this file, for each target
#include "hwy/foreach_target.h"                      // IWYU pragma: keep
// clang-format off: the order matters
#include "hwy/highway.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace ufp4::analysis::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using F32 = hn::ScalableTag<float>;
using U32 = hn::ScalableTag<std::uint32_t>;
using I32 = hn::ScalableTag<std::int32_t>;
using F64 = hn::ScalableTag<double>;
using U64 = hn::ScalableTag<std::uint64_t>;
using U8 = hn::ScalableTag<std::uint8_t>;

// What a vector of FP32 holds, at most the sixteen elements that eight bytes of codes stand for.
inline constexpr std::size_t kLanes = HWY_LANES(float);
inline constexpr std::size_t kRun = 16;
static_assert(kLanes <= kRun);

inline constexpr std::size_t kLevels = std::tuple_size_v<decltype(CodeSums::magnitude)>;

// The codes of kLanes elements, the first in the lowest nibble of `packed`; `byte_shift` is 0, 8, 16, ..
HWY_INLINE hn::Vec<U32> unpack(std::uint64_t packed, hn::Vec<U64> byte_shift) {
  const U64 u64;
  const auto bytes = hn::Shr(hn::Set(u64, packed), byte_shift);
  return hn::BitCast(U32(), hn::Or(hn::And(bytes, hn::Set(u64, 0xFull)),
                                   hn::And(hn::ShiftLeft<28>(bytes), hn::Set(u64, 0xFull << 32))));
}

// Of two's complement; the low bits of sign and magnitude are one already.
HWY_INLINE hn::Vec<I32> level_index(hn::Vec<I32> code) { return hn::Min(code, hn::Sub(hn::Set(I32(), 16), code)); }

// How often each code occurs.
HWY_NOINLINE void count_codes(const std::uint8_t* HWY_RESTRICT codes, std::size_t bytes, std::int64_t* count) {
  const U8 u8;
  const std::size_t lanes = hn::Lanes(u8);
  std::size_t done = 0;
  for (; done + lanes <= bytes; done += lanes) {
    const auto packed = hn::LoadU(u8, codes + done);
    const auto even = hn::And(packed, hn::Set(u8, std::uint8_t{15}));
    const auto odd = hn::AndNot(hn::Set(u8, std::uint8_t{15}), packed);
    for (std::uint8_t code = 0; code < 16; ++code) {
      const auto high = static_cast<std::uint8_t>(code << 4);
      count[code] += static_cast<std::int64_t>(hn::CountTrue(u8, hn::Eq(even, hn::Set(u8, code))) +
                                               hn::CountTrue(u8, hn::Eq(odd, hn::Set(u8, high))));
    }
  }
  for (; done < bytes; ++done) {
    ++count[codes[done] & 15];
    ++count[codes[done] >> 4];
  }
}

// The sums of magnitudes are FP32 within a stretch this long, which keeps them exact to a millionth.
inline constexpr std::size_t kStretch = 8192;

HWY_NOINLINE void add_blocks(const CodedBlocks& v, CodeSums& sums) {
  const F32 f32;
  const F64 f64;
  const hn::Half<F32> half;
  const std::size_t blocks_at_once = HWY_MAX(std::size_t{1}, kStretch / v.block);
  auto xx = hn::Zero(f64);
  auto xq = hn::Zero(f64);
  auto qq = hn::Zero(f64);
  const auto least = hn::Set(f32, v.least);
  const auto most = hn::Set(f32, v.most);
  const auto byte_shift = hn::ShiftLeft<3>(hn::Iota(U64(), 0));
  const std::uint64_t code_bits = v.kind == CodeKind::kSignMagnitude ? 0x7777777777777777u : ~std::uint64_t{0};
  std::size_t clamped = 0;
  for (std::size_t first = 0; first < v.blocks; first += blocks_at_once) {
    hn::Vec<F32> magnitude[kLevels];
    for (auto& sum : magnitude) sum = hn::Zero(f32);
    const std::size_t last = HWY_MIN(first + blocks_at_once, v.blocks);
    for (std::size_t b = first; b < last; ++b) {
      const auto inverse = hn::Set(f64, v.inverse_scales[b]);
      for (std::size_t run = b * v.block; run < (b + 1) * v.block; run += kRun) {
        std::uint64_t packed = 0;
        std::memcpy(&packed, v.codes + run / 2, sizeof packed);
        for (std::size_t part = 0; part < kRun; part += kLanes) {
          const auto x = hn::LoadU(f32, v.values + run + part);
          const auto q = hn::LoadU(f32, v.images + run + part);
          const auto x_lower = hn::PromoteTo(f64, hn::LowerHalf(x));
          const auto x_upper = hn::PromoteTo(f64, hn::UpperHalf(half, x));
          const auto q_lower = hn::PromoteTo(f64, hn::LowerHalf(q));
          const auto q_upper = hn::PromoteTo(f64, hn::UpperHalf(half, q));
          xx = hn::MulAdd(x_upper, x_upper, hn::MulAdd(x_lower, x_lower, xx));
          xq = hn::MulAdd(x_upper, q_upper, hn::MulAdd(x_lower, q_lower, xq));
          qq = hn::MulAdd(q_upper, q_upper, hn::MulAdd(q_lower, q_lower, qq));
          const auto t = hn::Combine(f32, hn::DemoteTo(half, hn::Mul(x_upper, inverse)),
                                     hn::DemoteTo(half, hn::Mul(x_lower, inverse)));
          clamped += hn::CountTrue(f32, hn::Or(hn::Gt(t, most), hn::Lt(t, least)));
          const auto level = level_index(hn::BitCast(I32(), unpack((packed & code_bits) >> (4 * part), byte_shift)));
          const auto size = hn::Abs(t);
          _Pragma("GCC unroll 9")  // the sums stay in registers
              for (std::size_t k = 0; k < kLevels; ++k) {
            const auto here = hn::RebindMask(f32, hn::Eq(level, hn::Set(I32(), static_cast<std::int32_t>(k))));
            magnitude[k] = hn::Add(magnitude[k], hn::IfThenElseZero(here, size));
          }
        }
      }
    }
    for (std::size_t k = 0; k < kLevels; ++k) {
      const auto lower = hn::PromoteTo(f64, hn::LowerHalf(magnitude[k]));
      const auto upper = hn::PromoteTo(f64, hn::UpperHalf(half, magnitude[k]));
      sums.magnitude[k] += hn::GetLane(hn::SumOfLanes(f64, hn::Add(lower, upper)));
    }
  }
  sums.xx += hn::GetLane(hn::SumOfLanes(f64, xx));
  sums.xq += hn::GetLane(hn::SumOfLanes(f64, xq));
  sums.qq += hn::GetLane(hn::SumOfLanes(f64, qq));
  sums.clamped += static_cast<std::int64_t>(clamped);
  count_codes(v.codes, v.blocks * v.block / 2, sums.count.data());
}

}  // namespace ufp4::analysis::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ufp4::analysis {

HWY_EXPORT(add_blocks);

void add(const CodedBlocks& blocks, CodeSums& sums) { HWY_DYNAMIC_DISPATCH(add_blocks)(blocks, sums); }

CodeSums& CodeSums::operator+=(const CodeSums& other) {
  xx += other.xx;
  xq += other.xq;
  qq += other.qq;
  clamped += other.clamped;
  for (std::size_t i = 0; i < count.size(); ++i) count[i] += other.count[i];
  for (std::size_t i = 0; i < magnitude.size(); ++i) magnitude[i] += other.magnitude[i];
  return *this;
}

}  // namespace ufp4::analysis
#endif  // HWY_ONCE
