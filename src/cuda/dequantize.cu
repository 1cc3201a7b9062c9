// Packed codes back to values, and second-level scales from what they follow from.
#include <algorithm>
#include <bit>

#include "cuda/kernels.h"
#include "cuda/store.cuh"
#include "ufp4/format.h"

namespace ufp4::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kResident = 6;

enum class Result : std::uint8_t { kF32, kBf16, kE4m3, kInt8 };

// What selectors say of a run.
enum class Selectors : std::uint8_t {
  kNone,
  kTable,      // which of two tables has the values of its codes
  kExponents,  // the powers of two that its four parts have beside the scale
};

struct Packed {
  const uint2* codes;
  const float* scales;               // ScaleCode::kF32: decoded
  const std::uint8_t* scale_bytes;   // other codes: as the format stores them
  std::uint32_t scale_bits;          // of an E4M3 byte: all, or those without the sign
  const std::uint8_t* selectors;     // beside decoded scales
  const float* outer_scales;         // null: 1
  std::uint32_t outer_shift;         // of parts: the log2 of the rows that share one ..
  std::uint32_t outer_columns;       // .. and how many there are along a row
  std::uint32_t outer_column_shift;  // the log2 of the runs that each has
  bool apart;                        // parts are multiplied into the values, not into the scale
  void* out;
  Result result;
  int lanes_shift;
  std::int64_t runs;
  std::uint32_t runs_per_row;
  float values[32];
};

// The scale of a run's block as it lies in memory: the bits of a float, or the bytes of its format.
template <ScaleCode kCode>
__device__ std::uint32_t load_scale(const Packed& p, std::int64_t run) {
  const std::int64_t block = run >> p.lanes_shift;
  if constexpr (kCode == ScaleCode::kF32) return __float_as_uint(__ldg(p.scales + block));
  if constexpr (kCode == ScaleCode::kE6m2) {
    return __ldg(reinterpret_cast<const std::uint32_t*>(p.scale_bytes) + block);
  }
  return __ldg(p.scale_bytes + block);
}

template <ScaleCode kCode>
__device__ float decode_scale(const Packed& p, std::uint32_t bits) {
  if constexpr (kCode == ScaleCode::kF32) {
    return __uint_as_float(bits);
  } else if constexpr (kCode == ScaleCode::kE8m0) {
    return __uint_as_float(bits == 0 ? 0x00400000u : bits == 0xFFu ? kNanF32 : bits << 23);
  } else if constexpr (kCode == ScaleCode::kE6m2) {
    const std::uint32_t code = bits & 0xFFu;
    return __uint_as_float(code == 0xFFu ? kNanF32 : (code + (79u << 2)) << 21);
  } else if constexpr (kCode == ScaleCode::kInt8) {
    return static_cast<float>(static_cast<int>(bits << 24) >> 24);
  } else {
    const __half_raw half = __nv_cvt_fp8_to_halfraw(static_cast<__nv_fp8_storage_t>(bits & p.scale_bits), __NV_E4M3);
    return __half2float(__half(half));
  }
}

template <Selectors kSelectors, ScaleCode kCode>
__device__ std::uint32_t load_selector(const Packed& p, std::int64_t run, std::uint32_t scale_bits) {
  if constexpr (kSelectors == Selectors::kTable) {
    return kCode == ScaleCode::kF32 ? __ldg(p.selectors + (run >> p.lanes_shift)) : scale_bits >> 7 & 1u;
  } else if constexpr (kSelectors == Selectors::kExponents) {
    if constexpr (kCode == ScaleCode::kF32) {
      return __ldg(reinterpret_cast<const std::uint32_t*>(p.selectors) + run);
    }
    const auto lane = static_cast<unsigned>(run) & ((1u << p.lanes_shift) - 1);
    std::uint32_t parts = 0;
#pragma unroll
    for (unsigned i = 0; i < 4; ++i) {
      const std::uint32_t exponent =
          (scale_bits >> (8 + 2 * lane + i / 2) & 1u) + (scale_bits >> (16 + 4 * lane + i) & 1u);
      parts |= exponent << (8 * i);
    }
    return parts;
  }
  return 0;
}

// Of parts: the second-level scale of a run.
__device__ float part_scale(const Packed& p, std::int64_t run) {
  std::int64_t row;
  std::uint32_t within;
  if (p.runs <= 0xFFFFFFFF) {
    const auto number = static_cast<std::uint32_t>(run);
    row = number / p.runs_per_row;
    within = number % p.runs_per_row;
  } else {
    row = run / p.runs_per_row;
    within = static_cast<std::uint32_t>(run % p.runs_per_row);
  }
  const std::uint32_t column = min(within >> p.outer_column_shift, p.outer_columns - 1);
  return __ldg(p.outer_scales + (row >> p.outer_shift) * p.outer_columns + column);
}

template <Selectors kSelectors, ScaleCode kCode, bool kParts>
__global__ void __launch_bounds__(kThreads, kResident) dequantize_runs(const __grid_constant__ Packed p) {
  const float lane_value = values_of_lane(p.values);
  const float outer = p.outer_scales != nullptr && !kParts ? *p.outer_scales : 1.0F;
  const std::int64_t stride = std::int64_t{gridDim.x} * kThreads;
  std::int64_t index = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  uint2 next_codes = index < p.runs ? __ldg(p.codes + index) : uint2{};
  std::uint32_t next_scale = index < p.runs ? load_scale<kCode>(p, index) : 0;
  while (index - threadIdx.x % 32 < p.runs) {
    const uint2 codes = next_codes;
    const std::uint32_t scale_bits = next_scale;
    float scale = decode_scale<kCode>(p, scale_bits);
    const std::int64_t ahead = index + stride;
    if (ahead < p.runs) {
      next_codes = __ldg(p.codes + ahead);
      next_scale = load_scale<kCode>(p, ahead);
    }
    const bool write = index < p.runs;
    const std::uint32_t selector = write ? load_selector<kSelectors, kCode>(p, index, scale_bits) : 0;
    float part = 1;
    if constexpr (kParts) {
      if (p.result != Result::kE4m3 && p.result != Result::kInt8 && write) part = part_scale(p, index);
      if (!p.apart) scale *= part;
    }
    float v[kRun];
    if constexpr (kSelectors == Selectors::kExponents) {
      look_up<false>(codes, 1.0F, lane_value, 0, v);
#pragma unroll
      for (int i = 0; i < kRun; ++i) v[i] *= scale * part_power(selector, i / 4);
    } else {
      look_up<kSelectors == Selectors::kTable>(codes, scale, lane_value, selector, v);
    }
    if (kCode == ScaleCode::kInt8 && p.result == Result::kInt8) {
      if (write) store_int8_run(static_cast<std::int8_t*>(p.out) + index * kRun, v);
    } else if (p.result == Result::kE4m3) {
      if (write) store_e4m3_run(static_cast<std::uint8_t*>(p.out) + index * kRun, v, isnan(scale));
    } else {
      const float last = kParts && p.apart ? part : outer;
#pragma unroll
      for (int i = 0; i < kRun; ++i) {
        if (p.apart) v[i] = __fadd_rn(v[i], 0.0F);  // integers, which have no negative zero
        v[i] *= last;
      }
      const float nan_where = p.apart ? last : scale;
      store_values(p.out, p.result == Result::kF32, index * kRun, v, nan_where, write);
    }
    index = ahead;
  }
}

__global__ void compute_outer_scales(float divisor, float least_amax, const float* amax, std::int64_t count,
                                     float* to) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i < count) to[i] = divisor == 0 ? 1.0F : amax == nullptr ? 0.0F : outer_scale(divisor, least_amax, amax[i]);
}

// Calls f<selectors, code, parts>() for a format whose scales are stored as `code`.
template <typename F>
void with_form(Selectors selectors, ScaleCode code, bool parts, F f) {
  constexpr auto kF32 = ScaleCode::kF32;
  constexpr auto kE4m3 = ScaleCode::kE4m3;
  switch (selectors) {
    case Selectors::kNone:
      if (code == kF32 && parts) return f.template operator()<Selectors::kNone, kF32, true>();
      if (code == kF32) return f.template operator()<Selectors::kNone, kF32, false>();
      if (code == ScaleCode::kE8m0) return f.template operator()<Selectors::kNone, ScaleCode::kE8m0, false>();
      if (code == ScaleCode::kInt8 && parts) return f.template operator()<Selectors::kNone, ScaleCode::kInt8, true>();
      if (code == ScaleCode::kInt8) return f.template operator()<Selectors::kNone, ScaleCode::kInt8, false>();
      if (parts) return f.template operator()<Selectors::kNone, kE4m3, true>();
      return f.template operator()<Selectors::kNone, kE4m3, false>();
    case Selectors::kTable:
      if (code == kF32) return f.template operator()<Selectors::kTable, kF32, false>();
      if (parts) return f.template operator()<Selectors::kTable, kE4m3, true>();
      return f.template operator()<Selectors::kTable, kE4m3, false>();
    case Selectors::kExponents:
      if (code == kF32) return f.template operator()<Selectors::kExponents, kF32, false>();
      return f.template operator()<Selectors::kExponents, ScaleCode::kE6m2, false>();
  }
}

void start_dequantize(const ConstQuantized& in, void* out, Result result, Stream stream) {
  const BlockFormat& format = *in.format;
  const int block = in.block == 0 ? format.block : in.block;
  // Scales that are given decoded are FP32 numbers with those of parts in them; integers stay what they are.
  const bool apart = format.scale == ScaleEncoding::kInt8;
  ScaleCode code = ScaleCode::kF32;
  bool parts = false;
  Packed p{};
  p.codes = reinterpret_cast<const uint2*>(in.codes);
  p.scales = in.scales;
  p.scale_bits = format.scale == ScaleEncoding::kPow2 ? 0xFFu : 0x7Fu;
  p.selectors = in.selectors;
  p.outer_scales = in.outer_scales;
  if (in.packed_scales != nullptr) {
    code = scale_code(format.scale);
    if (code == ScaleCode::kF32) p.scales = reinterpret_cast<const float*>(in.packed_scales);
    p.scale_bytes = in.packed_scales;
  }
  if (in.packed_scales != nullptr || apart) {
    parts = in.outer != OuterScale::kTensor && format.has_outer_scale() && in.outer_scales != nullptr;
    p.outer_shift = in.outer == OuterScale::k128x128 ? 7 : 0;
    const OuterShape outer = outer_shape({in.rows, in.columns, in.columns, in.columns / block}, in.outer);
    p.outer_columns = static_cast<std::uint32_t>(outer.columns);
    const auto runs_each = static_cast<std::uint64_t>(std::max<std::int64_t>(columns_of(in.outer), 128) / kRun);
    p.outer_column_shift = static_cast<std::uint32_t>(std::bit_width(runs_each) - 1);
  }
  p.apart = apart;
  p.out = out;
  p.result = result;
  p.runs = in.rows * in.columns / kRun;
  p.runs_per_row = static_cast<std::uint32_t>(in.columns / kRun);
  const bool exponents = format.rule == ScaleRule::kTwoLevelExponent;
  const bool two_tables = format.selector_block != 0 && !exponents;
  for (unsigned value = 0; value < 16; ++value) {
    p.values[value] = code_value(format.element, value);
    p.values[16 + value] = two_tables ? code_value(format.alternative.element, value) : p.values[value];
  }
  while ((kRun << p.lanes_shift) < block) ++p.lanes_shift;
  const std::int64_t filling = kResident * multiprocessors();
  const auto blocks = static_cast<unsigned>(std::min((p.runs + kThreads - 1) / kThreads, filling));
  const Selectors selectors = exponents ? Selectors::kExponents : two_tables ? Selectors::kTable : Selectors::kNone;
  with_form(selectors, code, parts, [&]<Selectors kSelectors, ScaleCode kCode, bool kParts>() {
    dequantize_runs<kSelectors, kCode, kParts><<<blocks, kThreads, 0, stream>>>(p);
  });
  check_launch("dequantize_runs", in.rows, in.columns);
}

}  // namespace

void launch_dequantize(const ConstQuantized& in, void* out, DType out_dtype, Stream stream) {
  start_dequantize(in, out, out_dtype == DType::kF32 ? Result::kF32 : Result::kBf16, stream);
}

void launch_dequantize_int8(const ConstQuantized& in, std::int8_t* out, Stream stream) {
  start_dequantize(in, out, Result::kInt8, stream);
}

void launch_dequantize_e4m3(const ConstQuantized& in, std::uint8_t* out, Stream stream) {
  start_dequantize(in, out, Result::kE4m3, stream);
}

int probe_kernel() {
  cudaFuncAttributes attributes{};
  return cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(&compute_outer_scales));
}

int probe_architecture() {
  cudaFuncAttributes attributes{};
  const auto* kernel = reinterpret_cast<const void*>(&compute_outer_scales);
  return cudaFuncGetAttributes(&attributes, kernel) == cudaSuccess ? attributes.ptxVersion : 0;
}

void launch_outer_scales(const BlockFormat& format, const float* amax, std::int64_t count, float* to, Stream stream) {
  const auto blocks = static_cast<unsigned>((count + kThreads - 1) / kThreads);
  compute_outer_scales<<<blocks, kThreads, 0, stream>>>(format.outer_divisor, format.outer_least, amax, count, to);
  check_launch("compute_outer_scales", count, 1);
}

}  // namespace ufp4::cuda
