// The loops over the units of a span, and the choice among them.
#include "cpu/codes-inl.h"
#include "cpu/load-inl.h"
#include "cpu/rules-inl.h"

#if defined(UFP4_CPU_SPANS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef UFP4_CPU_SPANS_INL_H_
#undef UFP4_CPU_SPANS_INL_H_
#else
#define UFP4_CPU_SPANS_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace ufp4::cpu::HWY_NAMESPACE {

// Each is defined in a file of its own, since the kernels take long to compile.
Kernels::SpanFunction find_amax_span(const Job& job);      // jobs of the rule kAmax
Kernels::SpanFunction find_rule_span(const Job& job);      // jobs of the rules that find a scale
Kernels::SpanFunction find_selector_span(const Job& job);  // jobs of the rules that choose something besides

// How far ahead a row kernel asks for memory: about the latency at the speed of a copy.
inline constexpr std::size_t kRowPrefetchBytes = 4096;

// Writes the words and scales of one group: packed for rows, below one another for columns.
template <bool kColumn, int kWords>
HWY_INLINE void store_group(VU* HWY_RESTRICT v, std::uint32_t* to, std::size_t group, std::size_t stage_stride) {
  if constexpr (kColumn) {
    UFP4_UNROLL
    for (std::size_t i = 0; i < kWords; ++i) hn::StoreU(v[i], U32(), to + i * stage_stride + group * kLanes);
  } else {
    store_lanes<kWords>(v, reinterpret_cast<std::uint8_t*>(to + group * kWords * kLanes),
                        kWords * sizeof(std::uint32_t));
  }
}

template <bool kColumn>
HWY_INLINE void store_group(VU* HWY_RESTRICT v, int words, std::uint32_t* to, std::size_t group,
                            std::size_t stage_stride) {
  switch (words) {
    case 1: return store_group<kColumn, 1>(v, to, group, stage_stride);
    case 2: return store_group<kColumn, 2>(v, to, group, stage_stride);
    case 4: return store_group<kColumn, 4>(v, to, group, stage_stride);
    case 8: return store_group<kColumn, 8>(v, to, group, stage_stride);
    default: return store_group<kColumn, 16>(v, to, group, stage_stride);
  }
}

// For units of any size.
inline HWY_NOINLINE void store_unit(const Job& job, VU* HWY_RESTRICT v, int words, std::uint32_t* to, std::size_t group,
                                    std::size_t stage_stride) {
  if (job.column) {
    store_group<true>(v, words, to, group, stage_stride);
  } else {
    store_group<false>(v, words, to, group, stage_stride);
  }
}

HWY_INLINE Coordinates first_coordinates(const Job& job, const Span& span) {
  const U32 u;
  const VU lane = hn::Iota(u, 0);
  if (job.column) {
    return {hn::Add(lane, hn::Set(u, span.row)), hn::Set(u, span.column)};
  } else {
    const VU unit = hn::Set(u, static_cast<std::uint32_t>(job.unit));
    return {hn::Set(u, span.row), hn::Add(hn::Mul(lane, unit), hn::Set(u, span.column))};
  }
}

// To the next group of lanes.
HWY_INLINE void advance(const Job& job, Span& here) {
  here.source += job.column ? kLanes * size_of(job.input) : kLanes * here.stride;
}

HWY_INLINE void advance(const Job& job, Coordinates& at) {
  const U32 u;
  if (job.column) {
    at.row = hn::Add(at.row, hn::Set(u, static_cast<std::uint32_t>(kLanes)));
  } else {
    at.column =
        hn::Add(at.column, hn::Set(u, static_cast<std::uint32_t>(kLanes) * static_cast<std::uint32_t>(job.unit)));
  }
}

// What the rule of kAmax does not read.
template <bool kBounded>
HWY_INLINE Outer outer_of(const Span& span, std::size_t group) {
  if constexpr (kBounded) {
    return load_outer(span, group);
  } else {
    return {hn::Zero(F32()), hn::Zero(F32())};
  }
}

// Groups that are worked on together, few enough that all they need stays in the first level of cache.
inline constexpr std::size_t kGroupsAhead = 4;

// Units of one run. Several groups are loaded and scaled before the first is rounded, so that the chain of dependent
// steps of one overlaps with those of others.
template <bool kColumn, DType kInput, Grid kGrid, bool kStochastic, bool kBounded>
void run_span(const Job& job, const Span& span) {
  Coordinates at = first_coordinates(job, span);
  Span here = span;
  for (std::size_t begin = 0; begin < span.groups; begin += kGroupsAhead) {
    const std::size_t end = HWY_MIN(begin + kGroupsAhead, span.groups);
    VF x[kGroupsAhead][kRun];
    VF factor[kGroupsAhead];
    bool usual[kGroupsAhead];
    for (std::size_t group = begin; group < end; ++group) {
      if constexpr (!kColumn) {
        for (std::size_t line = 0; line < kLanes * kRun * sizeof(std::uint16_t); line += 64) {
          hwy::Prefetch(here.source + kRowPrefetchBytes + line);
        }
      }
      VF part[kRun];
      load_run<kColumn, kInput>(job, here, 0, part);
      advance(job, here);
      VF scale;
      const Outer outer = outer_of<kBounded>(span, group);
      usual[group - begin] =
          find_scale<kGrid, kStochastic, kBounded>(job, find_extremes(part, 1), outer, scale, factor[group - begin]);
      hn::StoreU(scale, F32(), span.scales + group * kLanes);
      UFP4_UNROLL
      for (int i = 0; i < kRun; ++i) x[group - begin][i] = part[i];
    }
    for (std::size_t group = begin; group < end; ++group) {
      VU words[2];
      if (HWY_LIKELY(usual[group - begin])) {
        make_codes<kGrid, kStochastic, kBounded>(job, x[group - begin], 1, factor[group - begin], at, 0, words);
        store_group<kColumn, 2>(words, span.codes, group, span.stage_stride);
      } else {
        // An array of its own: the address of those above is never taken, and they stay in registers.
        VU any_words[2];
        VF scale;
        const Coordinates place = at;
        const Outer outer = outer_of<kBounded>(span, group);
        quantize_unusual<kGrid, kStochastic, kBounded>(job, x[group - begin], 1, outer, place, 0, any_words, scale);
        store_group<kColumn, 2>(any_words, span.codes, group, span.stage_stride);
        hn::StoreU(scale, F32(), span.scales + group * kLanes);
      }
      advance(job, at);
    }
  }
}

// Units of any size.
template <bool kColumn>
auto choose_load(DType input) {
  return input == DType::kF32    ? load_unit<kColumn, DType::kF32>
         : input == DType::kBF16 ? load_unit<kColumn, DType::kBF16>
                                 : load_unit<kColumn, DType::kF16>;
}

template <Grid kGrid, bool kStochastic, bool kBounded>
void unit_span(const Job& job, const Span& span) {
  const auto load = job.column ? choose_load<true>(job.input) : choose_load<false>(job.input);
  Coordinates at = first_coordinates(job, span);
  Span here = span;
  const int blocks = job.unit / job.block;
  for (std::size_t group = 0; group < span.groups; ++group) {
    VF x[128];
    VU words[16];
    VU scales[8];
    load(job, here, x);
    const Outer outer = outer_of<kBounded>(span, group);
    for (int b = 0; b < blocks; ++b) {
      const int first = b * job.block;
      const int runs = job.block / kRun;
      VF scale;
      VF factor;
      const Extremes extremes = find_extremes(x + first, runs);
      if (HWY_LIKELY((find_scale<kGrid, kStochastic, kBounded>(job, extremes, outer, scale, factor)))) {
        make_codes<kGrid, kStochastic, kBounded>(job, x + first, runs, factor, at, first, words + first / 8);
      } else {
        quantize_unusual<kGrid, kStochastic, kBounded>(job, x + first, runs, outer, at, first, words + first / 8,
                                                       scale);
      }
      scales[b] = hn::BitCast(U32(), scale);
    }
    store_unit(job, words, job.unit / 8, span.codes, group, span.stage_stride);
    store_unit(job, scales, blocks, reinterpret_cast<std::uint32_t*>(span.scales), group, span.stage_stride);
    advance(job, here);
    advance(job, at);
  }
}

template <bool kColumn, Grid kGrid, bool kStochastic, bool kBounded>
Kernels::SpanFunction choose_input(const Job& job) {
  // The portable target is slow in any case, and compiles in half the time without kernels for this case.
  if constexpr (HWY_TARGET != HWY_EMU128) {
    if (job.unit == kRun && job.input == DType::kBF16) {
      return run_span<kColumn, DType::kBF16, kGrid, kStochastic, kBounded>;
    }
  }
  return unit_span<kGrid, kStochastic, kBounded>;
}

template <bool kColumn, Grid kGrid, bool kBounded>
Kernels::SpanFunction choose_rounding(const Job& job) {
  return job.stochastic ? choose_input<kColumn, kGrid, true, kBounded>(job)
                        : choose_input<kColumn, kGrid, false, kBounded>(job);
}

template <bool kColumn, bool kBounded>
Kernels::SpanFunction choose_grid(const Job& job) {
  if (job.code_kind == CodeKind::kFullTwosComplement) return choose_rounding<kColumn, Grid::kFull, kBounded>(job);
  return job.uniform ? choose_rounding<kColumn, Grid::kUniform, kBounded>(job)
                     : choose_rounding<kColumn, Grid::kStretches, kBounded>(job);
}

template <bool kBounded>
Kernels::SpanFunction choose_axis(const Job& job) {
  return job.column ? choose_grid<true, kBounded>(job) : choose_grid<false, kBounded>(job);
}

}  // namespace ufp4::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // UFP4_CPU_SPANS_INL_H_
