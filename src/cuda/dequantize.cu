// Packed codes back to values, and the one-value kernel.
#include <algorithm>

#include "cuda/kernels.h"
#include "cuda/store.cuh"
#include "ufp4/format.h"

namespace ufp4::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kResident = 6;

enum class Result : std::uint8_t { kF32, kBf16, kE4m3 };

struct Packed {
  const uint2* codes;
  const float* scales;
  const std::uint8_t* scale_bytes;
  const float* outer_scale;  // null: global_scale
  float global_scale;
  void* out;
  Result result;
  int lanes_shift;
  std::int64_t runs;
  float values[16];
};

// The scale of a run's block as it lies in memory: the bits of a float, or an E4M3 byte.
__device__ std::uint32_t load_scale(const Packed& p, std::int64_t run) {
  const std::int64_t block = run >> p.lanes_shift;
  return p.scales != nullptr ? __float_as_uint(__ldg(p.scales + block)) : __ldg(p.scale_bytes + block);
}

__device__ float decode_scale(const Packed& p, std::uint32_t bits) {
  if (p.scales != nullptr) return __uint_as_float(bits);
  const __half_raw half = __nv_cvt_fp8_to_halfraw(static_cast<__nv_fp8_storage_t>(bits), __NV_E4M3);
  return __half2float(__half(half));
}

__global__ void __launch_bounds__(kThreads, kResident) dequantize_runs(const __grid_constant__ Packed p) {
  const float lane_value = values_of_lane(p.values);
  const float outer = p.outer_scale != nullptr ? *p.outer_scale : p.global_scale;
  const std::int64_t stride = std::int64_t{gridDim.x} * kThreads;
  std::int64_t index = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  uint2 next_codes = index < p.runs ? __ldg(p.codes + index) : uint2{};
  std::uint32_t next_scale = index < p.runs ? load_scale(p, index) : 0;
  while (index - threadIdx.x % 32 < p.runs) {
    const uint2 codes = next_codes;
    const float scale = decode_scale(p, next_scale);
    const std::int64_t ahead = index + stride;
    if (ahead < p.runs) {
      next_codes = __ldg(p.codes + ahead);
      next_scale = load_scale(p, ahead);
    }
    const bool write = index < p.runs;
    float v[kRun];
    look_up(codes, scale, lane_value, v);
    if (p.result == Result::kE4m3) {
      if (write) store_e4m3_run(static_cast<std::uint8_t*>(p.out) + index * kRun, v, isnan(scale));
    } else {
#pragma unroll
      for (int i = 0; i < kRun; ++i) v[i] *= outer;
      store_values(p.out, p.result == Result::kF32, index * kRun, v, scale, write);
    }
    index = ahead;
  }
}

// The second-level scale of int4_p2, or 1 for formats that have none.
__global__ void set_global_scale(float* to, const float* amax_at, float amax, bool window) {
  if (amax_at != nullptr) amax = *amax_at;
  *to = window ? outer_scale(amax) : 1.0F;
}

void start_dequantize(const ConstQuantized& in, void* out, Result result, Stream stream) {
  Packed p{};
  p.codes = reinterpret_cast<const uint2*>(in.codes);
  p.scales = in.scales;
  p.global_scale = in.global_scale;
  if (in.packed_scales != nullptr) {
    const bool fp32 = in.format->scale == ScaleEncoding::kFp32;
    p.scales = fp32 ? reinterpret_cast<const float*>(in.packed_scales) : nullptr;
    p.scale_bytes = in.packed_scales;
    p.outer_scale = in.outer_scales;
    p.global_scale = 1;
  }
  p.out = out;
  p.result = result;
  p.runs = in.rows * in.columns / kRun;
  for (unsigned code = 0; code < 16; ++code) p.values[code] = code_value(in.format->element, code);
  const int block = in.block == 0 ? in.format->block : in.block;
  while ((kRun << p.lanes_shift) < block) ++p.lanes_shift;
  const auto blocks = static_cast<unsigned>(std::min((p.runs + kThreads - 1) / kThreads, resident_blocks(kResident)));
  dequantize_runs<<<blocks, kThreads, 0, stream>>>(p);
  check_launch("dequantize_runs", in.rows, in.columns);
}

}  // namespace

void launch_dequantize(const ConstQuantized& in, void* out, DType out_dtype, Stream stream) {
  start_dequantize(in, out, out_dtype == DType::kF32 ? Result::kF32 : Result::kBf16, stream);
}

void launch_dequantize_e4m3(const ConstQuantized& in, std::uint8_t* out, Stream stream) {
  start_dequantize(in, out, Result::kE4m3, stream);
}

int probe_kernel() {
  cudaFuncAttributes attributes{};
  return cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(&set_global_scale));
}

void launch_global_scale(const QuantizeSpec& spec, float* to, Stream stream) {
  set_global_scale<<<1, 1, 0, stream>>>(to, spec.outer_amax, spec.tensor_amax,
                                        spec.format->rule == ScaleRule::kPow2Window);
  check_launch("set_global_scale", 1, 1);
}

}  // namespace ufp4::cuda
