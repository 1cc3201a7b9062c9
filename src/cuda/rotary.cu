#include "cuda/rotary.h"

#include <string>

#include "cuda/kernels.h"
#include "cuda/layer.cuh"
#include "ufp4/error.h"

namespace ufp4::cuda {
namespace {

constexpr int kVector = 8;  // BF16 values in 16 bytes
static_assert(kHeadMultiple == 2 * kVector);

struct HeadPairs {
  uint4 low, high;
};

constexpr int kTokens = 4;         // of a block, at a time
constexpr int kTokenThreads = 64;  // for the heads of a token
constexpr int kTogether = 4;       // heads that a thread loads before it turns the first

// Eight pairs of each of a token's heads are a thread's: it turns them by the same angles.
__global__ void __launch_bounds__(kTokens* kTokenThreads)
    rotate_heads(const __grid_constant__ RotaryArgs p, std::uint32_t positions, int heads) {
  const auto half = static_cast<std::uint32_t>(p.size / 2);
  const std::uint32_t vectors = half / kVector;
  const std::uint32_t slots = vectors < kTokenThreads ? kTokenThreads / vectors : 1;  // heads at a time
  const auto tokens = static_cast<std::uint32_t>(p.tokens);
  const std::uint32_t position = blockIdx.x * kTokens + threadIdx.y;  // among batch * tokens
  if (position >= positions) return;
  const std::uint32_t sequence = position / tokens;
  const std::uint32_t token = position - sequence * tokens;
  for (std::uint32_t item = threadIdx.x; item < slots * vectors; item += kTokenThreads) {
    const std::uint32_t slot = item / vectors;
    const std::uint32_t first = (item - slot * vectors) * kVector;
    const Angles angles = load_angles(p.table + token * p.size + first, p.size);
    int number = 0;
    int before = 0;  // heads of earlier parts
    const auto part_of = [&](int head) -> const RotaryPart& {
      while (head - before >= p.parts[number].heads) before += static_cast<int>(p.parts[number++].heads);
      return p.parts[number];
    };
    auto* to = static_cast<std::uint16_t*>(p.to) + position * p.all_heads * p.size + first;
    for (int head0 = static_cast<int>(slot); head0 < heads; head0 += static_cast<int>(slots) * kTogether) {
      HeadPairs pairs[kTogether];
      bool turns[kTogether];
#pragma unroll
      for (int k = 0; k < kTogether; ++k) {
        const int head = head0 + k * static_cast<int>(slots);
        if (head >= heads) continue;
        const RotaryPart& part = part_of(head);
        const auto* from = static_cast<const std::uint16_t*>(part.from) + sequence * part.batch_stride +
                           token * part.token_stride + (head - before) * part.head_stride + first;
        pairs[k] = {*reinterpret_cast<const uint4*>(from), *reinterpret_cast<const uint4*>(from + half)};
        turns[k] = part.turned;
      }
#pragma unroll
      for (int k = 0; k < kTogether; ++k) {
        const int head = head0 + k * static_cast<int>(slots);
        if (head >= heads) continue;
        const auto& [low, high] = pairs[k];
        auto* to_low = reinterpret_cast<uint4*>(to + head * p.size);
        auto* to_high = reinterpret_cast<uint4*>(to + head * p.size + half);
        *to_low = turns[k] ? turned(low, high, angles, -p.direction) : low;
        *to_high = turns[k] ? turned(high, low, angles, p.direction) : high;
      }
    }
  }
}

}  // namespace

bool readable(const RotaryPart& part) {
  return part.token_stride % kVector == 0 && part.head_stride % kVector == 0 &&
         reinterpret_cast<std::uintptr_t>(part.from) % 16 == 0;
}

void rotary(const RotaryArgs& args, Stream stream) {
  if (args.size % kHeadMultiple != 0) {
    throw InputError("rotary embedding: heads of " + std::to_string(args.size) + " values, expected a multiple of " +
                     std::to_string(kHeadMultiple));
  }
  std::int64_t heads = 0;
  for (int i = 0; i < args.part_count; ++i) heads += args.parts[i].heads;
  const std::int64_t positions = args.batch * args.tokens;
  if (positions == 0 || heads == 0) return;
  const auto blocks = static_cast<unsigned>((positions + kTokens - 1) / kTokens);
  rotate_heads<<<blocks, dim3(kTokenThreads, kTokens), 0, stream>>>(args, static_cast<std::uint32_t>(positions),
                                                                    static_cast<int>(heads));
  check_launch("rotate_heads", positions, heads * args.size);
}

}  // namespace ufp4::cuda
