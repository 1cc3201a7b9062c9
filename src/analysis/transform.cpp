// Compiled once for every instruction set that the compiler knows.
#include "analysis/transform.h"

#include <array>
#include <cstdint>

#include "numerics/hadamard.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "analysis/transform.cpp"  // NOLINT(bugprone-suspicious-include): this file, for each target
#include "hwy/foreach_target.h"                      // IWYU pragma: keep
// clang-format off: the order matters
#include "hwy/highway.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace ufp4::analysis::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using F32 = hn::ScalableTag<float>;
using U32 = hn::ScalableTag<std::uint32_t>;
using VF = hn::Vec<F32>;

inline constexpr std::size_t kLanes = HWY_LANES(float);
inline constexpr std::size_t kRun = 16;  // the least transform
static_assert(kLanes >= 4 && kLanes <= kRun);

// Each lane's partner at distance kStride.
template <std::size_t kStride>
HWY_INLINE VF partners(VF v) {
  if constexpr (kStride == 1) {
    return hn::Shuffle2301(v);
  } else if constexpr (kStride == 2) {
    return hn::Shuffle1032(v);
  } else if constexpr (kStride == 4) {
    return hn::SwapAdjacentBlocks(v);
  } else {
    return hn::ConcatLowerUpper(F32(), v, v);
  }
}

// The sign bit where a lane is the second of its pair at distance kStride.
template <std::size_t kStride>
HWY_INLINE hn::Vec<U32> second_of_pair() {
  HWY_ALIGN static constexpr auto kSigns = [] {
    std::array<std::uint32_t, kLanes> signs{};
    for (std::size_t lane = 0; lane < kLanes; ++lane) signs[lane] = (lane & kStride) == 0 ? 0 : 0x80000000u;
    return signs;
  }();
  return hn::Load(U32(), kSigns.data());
}

// (a + b, a - b) of all pairs within a vector: where a lane is the second of its pair, its partner less itself.
template <std::size_t kStride>
HWY_INLINE VF butterfly_within(VF v) {
  if constexpr (kStride >= kLanes) {
    return v;
  } else {
    const auto negated = hn::Xor(hn::BitCast(U32(), v), second_of_pair<kStride>());
    return hn::Add(partners<kStride>(v), hn::BitCast(F32(), negated));
  }
}

HWY_NOINLINE void transform(float* HWY_RESTRICT values, std::size_t count, const std::uint32_t* HWY_RESTRICT signs,
                            std::size_t size, float scale) {
  const F32 f32;
  const U32 u32;
  const auto factor = hn::Set(f32, scale);
  for (std::size_t first = 0; first < count; first += size) {
    float* run = values + first;
    for (std::size_t i = 0; i < size; i += kLanes) {
      VF v = hn::BitCast(
          f32, hn::Xor(hn::LoadU(u32, reinterpret_cast<const std::uint32_t*>(run + i)), hn::LoadU(u32, signs + i)));
      v = butterfly_within<4>(butterfly_within<2>(butterfly_within<1>(v)));
      hn::StoreU(butterfly_within<8>(v), f32, run + i);
    }
    for (std::size_t stride = kLanes; stride < size; stride *= 2) {
      for (std::size_t pair = 0; pair < size; pair += 2 * stride) {
        for (std::size_t i = pair; i < pair + stride; i += kLanes) {
          const VF a = hn::LoadU(f32, run + i);
          const VF b = hn::LoadU(f32, run + i + stride);
          hn::StoreU(hn::Add(a, b), f32, run + i);
          hn::StoreU(hn::Sub(a, b), f32, run + i + stride);
        }
      }
    }
    for (std::size_t i = 0; i < size; i += kLanes) hn::StoreU(hn::Mul(hn::LoadU(f32, run + i), factor), f32, run + i);
  }
}

}  // namespace ufp4::analysis::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ufp4::analysis {

HWY_EXPORT(transform);

void transform_runs(std::span<float> values, const Hadamard& hadamard) {
  if (hadamard.size == 0) return;
  std::array<std::uint32_t, 128> signs{};
  const Signs& mask = hadamard.signs.value();
  for (std::size_t i = 0; i < static_cast<std::size_t>(hadamard.size); ++i) {
    signs[i] = (mask[i / 32] >> (i % 32) & 1u) << 31;
  }
  HWY_DYNAMIC_DISPATCH(transform)
  (values.data(), values.size(), signs.data(), static_cast<std::size_t>(hadamard.size), hadamard_scale(hadamard.size));
}

}  // namespace ufp4::analysis
#endif  // HWY_ONCE
