#include "cuda/cross_entropy.h"

#include <cuda_bf16.h>

#include <cmath>

#include "cuda/kernels.h"
#include "cuda/values.cuh"

namespace ufp4::cuda {
namespace {

constexpr int kThreads = 512;
constexpr int kWarps = kThreads / 32;
constexpr int kVector = 8;

// The largest logit so far, and the sum of exp(logit - largest).
struct Softmax {
  float largest;
  float sum;
};

__device__ inline Softmax merge(Softmax a, Softmax b) {
  const float largest = fmaxf(a.largest, b.largest);
  if (largest == -INFINITY) return {largest, 0.0F};
  return {largest, a.sum * __expf(a.largest - largest) + b.sum * __expf(b.largest - largest)};
}

__device__ inline Softmax merge_lanes(Softmax own) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    own = merge(own,
                {__shfl_xor_sync(0xFFFFFFFFu, own.largest, distance), __shfl_xor_sync(0xFFFFFFFFu, own.sum, distance)});
  }
  return own;
}

// Over the thread block, the same bits in every thread.
__device__ inline Softmax merge_block(Softmax own) {
  __shared__ Softmax warps[kWarps];
  own = merge_lanes(own);
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = own;
  __syncthreads();
  return merge_lanes(threadIdx.x % 32 < kWarps ? warps[threadIdx.x % 32] : Softmax{-INFINITY, 0.0F});
}

__device__ inline float value_of(std::uint16_t bits) { return __uint_as_float(static_cast<std::uint32_t>(bits) << 16); }

__device__ inline std::uint32_t pack2(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const std::uint32_t*>(&pair);
}

// A thread block works on a row; the second pass finds it in the caches.
template <bool kVectors>
__global__ void __launch_bounds__(kThreads) cross_entropy_rows(const __grid_constant__ CrossEntropyArgs p) {
  const std::int64_t row = blockIdx.x;
  auto* logits = static_cast<std::uint16_t*>(p.logits) + row * p.columns;
  Softmax own{-INFINITY, 0.0F};
  if constexpr (kVectors) {
    for (std::int64_t i = threadIdx.x; i < p.columns / kVector; i += kThreads) {
      const uint4 bits = reinterpret_cast<const uint4*>(logits)[i];
      const std::uint32_t words[4] = {bits.x, bits.y, bits.z, bits.w};
      float values[kVector];
      float largest = own.largest;
#pragma unroll
      for (int k = 0; k < kVector; ++k) {
        values[k] = Values<DType::kBF16>::get(words[k / 2], k % 2);
        largest = fmaxf(largest, values[k]);
      }
      if (largest == -INFINITY) continue;
      own.sum *= __expf(own.largest - largest);
#pragma unroll
      for (int k = 0; k < kVector; ++k) own.sum += __expf(values[k] - largest);
      own.largest = largest;
    }
  } else {
    for (std::int64_t i = threadIdx.x; i < p.columns; i += kThreads) own = merge(own, {value_of(logits[i]), 1.0F});
  }
  const Softmax all = merge_block(own);
  const float log_sum = all.largest + logf(all.sum);
  const std::int64_t target = p.targets[row];
  const bool known = target >= 0 && target < p.columns;
  if (threadIdx.x == 0) p.losses[row] = known ? log_sum - value_of(logits[target]) : NAN;
  if (!p.gradient) return;
  __syncthreads();  // the target's logit has been read
  const auto gradient_of = [&](float logit, std::int64_t column) {
    return (__expf(logit - log_sum) - (column == target ? 1.0F : 0.0F)) * p.scale;
  };
  if constexpr (kVectors) {
    for (std::int64_t i = threadIdx.x; i < p.columns / kVector; i += kThreads) {
      uint4 bits = reinterpret_cast<const uint4*>(logits)[i];
      std::uint32_t words[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        words[k] = pack2(gradient_of(Values<DType::kBF16>::get(words[k], 0), i * kVector + 2 * k),
                         gradient_of(Values<DType::kBF16>::get(words[k], 1), i * kVector + 2 * k + 1));
      }
      reinterpret_cast<uint4*>(logits)[i] = {words[0], words[1], words[2], words[3]};
    }
  } else {
    for (std::int64_t i = threadIdx.x; i < p.columns; i += kThreads) {
      logits[i] = static_cast<std::uint16_t>(pack2(gradient_of(value_of(logits[i]), i), 0.0F));
    }
  }
}

}  // namespace

void cross_entropy(const CrossEntropyArgs& args, Stream stream) {
  if (args.rows == 0) return;
  const auto blocks = static_cast<unsigned>(args.rows);
  if (args.columns % kVector == 0) {
    cross_entropy_rows<true><<<blocks, kThreads, 0, stream>>>(args);
  } else {
    cross_entropy_rows<false><<<blocks, kThreads, 0, stream>>>(args);
  }
  check_launch("cross_entropy_rows", args.rows, args.columns);
}

}  // namespace ufp4::cuda
