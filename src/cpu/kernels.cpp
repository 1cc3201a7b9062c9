// The kernels, compiled once for every instruction set that the compiler knows.
#include <vector>

#include "cpu/job.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/kernels.cpp"  // NOLINT(bugprone-suspicious-include): this file, again for each target
#include "hwy/foreach_target.h"               // IWYU pragma: keep
// clang-format off: the order matters
#include "cpu/dequantize-inl.h"
#include "cpu/lanes-inl.h"
#include "cpu/spans-inl.h"
#include "hwy/cache_control.h"
#include "hwy/highway.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace ufp4::cpu::HWY_NAMESPACE {

// Defined in product_kernels.cpp.
namespace widened {
void multiply(const Product& product, const ProductTile& tile);
}
#if HWY_TARGET == HWY_AVX3
namespace pairs {
void multiply(const Product& product, const ProductTile& tile);
}
constexpr auto kMultiplyPairs = pairs::multiply;
#else
constexpr decltype(Kernels::multiply_pairs) kMultiplyPairs = nullptr;
#endif

// Defined in int8_product_kernels.cpp.
namespace int8_pairs {
void multiply(const Int8Product& product, const ProductTile& tile);
}
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX2
namespace int8_quads {
void multiply(const Int8Product& product, const ProductTile& tile);
}
constexpr auto kMultiplyInt8Quads = int8_quads::multiply;
#else
constexpr decltype(Kernels::multiply_int8_quads) kMultiplyInt8Quads = nullptr;
#endif

// As Kernels::transpose.
void transpose(const std::uint32_t* HWY_RESTRICT source, std::size_t source_stride, std::size_t words,
               std::size_t columns, std::uint8_t* HWY_RESTRICT target, std::size_t target_stride, bool past_caches) {
  for (std::size_t word = 0; word < words; word += kLanes) {
    const std::size_t here = HWY_MIN(kLanes, words - word);
    for (std::size_t column = 0; column < columns; column += kLanes) {
      VU v[kLanes];
      for (std::size_t i = 0; i < kLanes; ++i) {
        v[i] = i < here ? hn::LoadU(U32(), source + (word + i) * source_stride + column) : hn::Zero(U32());
      }
      rotate_index<kLanes, log2(kLanes)>(v);
      std::uint8_t* to = target + column * target_stride + word * sizeof(std::uint32_t);
      const std::size_t lanes = HWY_MIN(kLanes, columns - column);
      if (here == kLanes && lanes == kLanes) {
        // Whole cache lines that are written past the caches need not be read from memory first.
        if (past_caches && kLanes == 16 && (reinterpret_cast<std::uintptr_t>(to) | target_stride) % 64 == 0) {
          UFP4_UNROLL
          for (std::size_t i = 0; i < kLanes; ++i) {
            hn::Stream(v[i], U32(), reinterpret_cast<std::uint32_t*>(to + i * target_stride));
          }
          continue;
        }
        UFP4_UNROLL
        for (std::size_t i = 0; i < kLanes; ++i) store_words(v[i], to + i * target_stride);
        continue;
      }
      HWY_ALIGN std::uint32_t buffer[kLanes * kLanes];
      UFP4_UNROLL
      for (std::size_t i = 0; i < kLanes; ++i) hn::Store(v[i], U32(), buffer + i * kLanes);
      for (std::size_t i = 0; i < lanes; ++i) {
        std::memcpy(to + i * target_stride, buffer + i * kLanes, here * sizeof(std::uint32_t));
      }
    }
  }
  if (past_caches) hwy::FlushStream();
}

// The largest magnitude of each block, 0 if it is not finite, in place of its scale.
void measure_span(const Job& job, const Span& span) {
  const auto load = job.column ? choose_load<true>(job.input) : choose_load<false>(job.input);
  Span here = span;
  const int blocks = job.unit / job.block;
  for (std::size_t group = 0; group < span.groups; ++group) {
    VF x[128];
    VU amax[8];
    load(job, here, x);
    for (int b = 0; b < blocks; ++b) {
      const auto [positive, negative] =
          with_late_factor(job, find_extremes(x + std::ptrdiff_t{b} * job.block, job.block / kRun));
      const VI bits = hn::Max(hn::BitCast(I32(), positive), hn::BitCast(I32(), negative));
      const auto finite = hn::Lt(bits, hn::Set(I32(), kInfinityBits));
      if (job.format->outer_of_extremes()) {
        VF extreme;
        VF unused;
        make_scale<Grid::kFull>(job, positive, negative, 1.0F, extreme, unused);
        const VF magnitude = hn::Abs(extreme);
        amax[b] = hn::BitCast(U32(), hn::IfThenElse(hn::RebindMask(F32(), finite), magnitude, hn::Set(F32(), -0.0F)));
      } else {
        amax[b] = hn::BitCast(U32(), hn::IfThenElseZero(finite, bits));
      }
    }
    store_unit(job, amax, blocks, reinterpret_cast<std::uint32_t*>(span.scales), group, span.stage_stride);
    advance(job, here);
  }
}

Kernels::SpanFunction find_span(const Job& job) {
  if (job.measure) return measure_span;
  switch (job.rule) {
    case ScaleRule::kBestOfTwo:
    case ScaleRule::kTwoLevelExponent:
    case ScaleRule::kIntegerMultiple: return find_selector_span(job);
    default: break;
  }
  return job.bounded ? find_rule_span(job) : find_amax_span(job);
}

Kernels kernels() {
  return {hwy::TargetName(HWY_TARGET),
          HWY_TARGET,
          kLanes,
          find_span,
          transpose,
          dequantize,
          widened::multiply,
          kMultiplyPairs,
          int8_pairs::multiply,
          kMultiplyInt8Quads};
}

}  // namespace ufp4::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ufp4::cpu {

std::span<const Kernels> all_kernels() {
  static const std::vector<Kernels> list {
#if HWY_ARCH_X86
#if defined(HWY_AVX3_SPR) && (HWY_TARGETS & HWY_AVX3_SPR)
    N_AVX3_SPR::kernels(),
#endif
#if defined(HWY_AVX3_ZEN4) && (HWY_TARGETS & HWY_AVX3_ZEN4)
        N_AVX3_ZEN4::kernels(),
#endif
#if HWY_TARGETS & HWY_AVX3_DL
        N_AVX3_DL::kernels(),
#endif
#if HWY_TARGETS & HWY_AVX3
        N_AVX3::kernels(),
#endif
#if HWY_TARGETS & HWY_AVX2
        N_AVX2::kernels(),
#endif
#if HWY_TARGETS & HWY_SSE4
        N_SSE4::kernels(),
#endif
#if HWY_TARGETS & HWY_SSSE3
        N_SSSE3::kernels(),
#endif
#if defined(HWY_SSE2) && (HWY_TARGETS & HWY_SSE2)
        N_SSE2::kernels(),
#endif
#endif
#if HWY_ARCH_ARM && (HWY_TARGETS & HWY_NEON)
        N_NEON::kernels(),
#endif
#if HWY_TARGETS & HWY_EMU128
        N_EMU128::kernels(),
#endif
  };
  return list;
}

bool is_supported(const Kernels& kernels) {
  // The portable target needs nothing of the machine.
  return kernels.target == HWY_EMU128 || (hwy::SupportedTargets() & kernels.target) != 0;
}

}  // namespace ufp4::cpu
#endif  // HWY_ONCE
