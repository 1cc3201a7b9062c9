// Packed codes back to values, and the one-value kernel.
#include <algorithm>

#include "cuda/kernels.h"
#include "cuda/store.cuh"

namespace ufp4::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kResident = 6;

struct Packed {
  const uint2* codes;
  const float* scales;
  void* out;
  bool f32;
  int lanes_shift;
  std::int64_t runs;
  float values[16];
};

__global__ void __launch_bounds__(kThreads, kResident) dequantize_runs(const __grid_constant__ Packed p) {
  const float lane_value = values_of_lane(p.values);
  const std::int64_t stride = std::int64_t{gridDim.x} * kThreads;
  std::int64_t index = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const auto scale_of = [&](std::int64_t run) { return __ldg(p.scales + (run >> p.lanes_shift)); };
  uint2 next_codes = index < p.runs ? __ldg(p.codes + index) : uint2{};
  float next_scale = index < p.runs ? scale_of(index) : 0.0F;
  while (index - threadIdx.x % 32 < p.runs) {
    const uint2 codes = next_codes;
    const float scale = next_scale;
    const std::int64_t ahead = index + stride;
    if (ahead < p.runs) {
      next_codes = __ldg(p.codes + ahead);
      next_scale = scale_of(ahead);
    }
    store_dequantized(p.out, p.f32, index * kRun, codes, scale, lane_value, index < p.runs);
    index = ahead;
  }
}

__global__ void set_one(float* to) { *to = 1.0F; }

}  // namespace

void launch_dequantize(const ConstQuantized& in, const float (&values)[16], void* out, DType out_dtype, Stream stream) {
  Packed p{reinterpret_cast<const uint2*>(in.codes),
           in.scales,
           out,
           out_dtype == DType::kF32,
           0,
           in.rows * in.columns / kRun,
           {}};
  std::copy(std::begin(values), std::end(values), p.values);
  const int block = in.block == 0 ? in.format->block : in.block;
  while ((kRun << p.lanes_shift) < block) ++p.lanes_shift;
  const auto blocks = static_cast<unsigned>(std::min((p.runs + kThreads - 1) / kThreads, resident_blocks(kResident)));
  dequantize_runs<<<blocks, kThreads, 0, stream>>>(p);
  check_launch("dequantize_runs", in.rows, in.columns);
}

int probe_kernel() {
  cudaFuncAttributes attributes{};
  return cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(&set_one));
}

void launch_set_one(float* to, Stream stream) {
  set_one<<<1, 1, 0, stream>>>(to);
  check_launch("set_one", 1, 1);
}

}  // namespace ufp4::cuda
