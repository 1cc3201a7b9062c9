#include "cuda/rotary.h"

#include <cuda_bf16.h>

#include <algorithm>
#include <string>

#include "cuda/kernels.h"
#include "cuda/values.cuh"
#include "ufp4/error.h"

namespace ufp4::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kResident = 8;
constexpr int kVector = 8;  // BF16 values in 16 bytes

__device__ inline void unpack(const uint4& bits, float (&values)[kVector]) {
  const std::uint32_t words[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
  for (int i = 0; i < kVector; ++i) values[i] = Values<DType::kBF16>::get(words[i / 2], i % 2);
}

__device__ inline uint4 pack(const float (&values)[kVector]) {
  std::uint32_t words[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(values[2 * i], values[2 * i + 1]);
    words[i] = *reinterpret_cast<const std::uint32_t*>(&pair);
  }
  return {words[0], words[1], words[2], words[3]};
}

__device__ inline void load8(const float* from, float (&values)[kVector]) {
#pragma unroll
  for (int i = 0; i < kVector; i += 4) {
    const float4 x = __ldg(reinterpret_cast<const float4*>(from + i));
    values[i] = x.x;
    values[i + 1] = x.y;
    values[i + 2] = x.z;
    values[i + 3] = x.w;
  }
}

// A thread turns eight pairs. Threads of a token follow one another along heads and pairs.
__global__ void __launch_bounds__(kThreads, kResident)
    rotate_heads(const __grid_constant__ RotaryArgs p, std::int64_t work, std::uint32_t heads) {
  const auto half = static_cast<std::uint32_t>(p.size / 2);
  const std::uint32_t vectors = half / kVector;
  for (std::int64_t index = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; index < work;
       index += std::int64_t{gridDim.x} * kThreads) {
    const auto position = static_cast<std::uint32_t>(index / (heads * vectors));  // among batch * tokens
    const auto within = static_cast<std::uint32_t>(index % (heads * vectors));
    const std::uint32_t head = within / vectors;
    const std::uint32_t first = within % vectors * kVector;
    const std::int64_t token = position % p.tokens;
    int number = 0;
    std::int64_t head_of_part = head;
    while (head_of_part >= p.parts[number].heads) head_of_part -= p.parts[number++].heads;
    const RotaryPart& part = p.parts[number];
    const auto* from = static_cast<const std::uint16_t*>(part.from) + position / p.tokens * part.batch_stride +
                       token * part.token_stride + head_of_part * part.head_stride + first;
    auto* to = static_cast<std::uint16_t*>(p.to) + (position * p.all_heads + head) * p.size + first;
    uint4 low = *reinterpret_cast<const uint4*>(from);
    uint4 high = *reinterpret_cast<const uint4*>(from + half);
    if (part.turned) {
      float a[kVector], b[kVector], cos[kVector], sin[kVector], turned_a[kVector], turned_b[kVector];
      unpack(low, a);
      unpack(high, b);
      load8(p.table + token * p.size + first, cos);
      load8(p.table + token * p.size + half + first, sin);
#pragma unroll
      for (int i = 0; i < kVector; ++i) {
        const float s = p.direction * sin[i];
        turned_a[i] = a[i] * cos[i] - b[i] * s;
        turned_b[i] = b[i] * cos[i] + a[i] * s;
      }
      low = pack(turned_a);
      high = pack(turned_b);
    }
    *reinterpret_cast<uint4*>(to) = low;
    *reinterpret_cast<uint4*>(to + half) = high;
  }
}

}  // namespace

void rotary(const RotaryArgs& args, Stream stream) {
  if (args.size % (2 * kVector) != 0) {
    throw InputError("rotary embedding: heads of " + std::to_string(args.size) + " values, expected a multiple of 16");
  }
  std::int64_t heads = 0;
  for (int i = 0; i < args.part_count; ++i) heads += args.parts[i].heads;
  const std::int64_t work = args.batch * args.tokens * heads * (args.size / 2 / kVector);
  if (work == 0) return;
  const auto blocks = static_cast<unsigned>(std::min((work + kThreads - 1) / kThreads, resident_blocks(kResident)));
  rotate_heads<<<blocks, kThreads, 0, stream>>>(args, work, static_cast<std::uint32_t>(heads));
  check_launch("rotate_heads", args.batch * args.tokens, heads * args.size);
}

}  // namespace ufp4::cuda
