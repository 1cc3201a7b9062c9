// Rotary embedding of the heads of a BF16 tensor on the GPU.
#pragma once

#include <cstdint>

#include "cuda/quantize.h"

namespace ufp4::cuda {

// Heads to be turned, or only copied, from one place to another: element (b, t, h, i) of either lies at
// b * batch_stride + t * token_stride + h * head_stride + i. A multiple of 8 in all strides.
struct RotaryPart {
  const void* from = nullptr;  // BF16
  std::int64_t batch_stride = 0;
  std::int64_t token_stride = 0;
  std::int64_t head_stride = 0;
  std::int64_t heads = 0;
  bool turned = true;
};

// Whether the heads of a token lie as described, on 16 bytes.
bool readable(const RotaryPart& part);

// Turns each pair (i, i + size / 2) of the parts' heads by the angle of its token, times `direction` (1, or -1 for the
// gradient), in FP32, and rounds to BF16: numerically what cpu_layers::rotate does.
struct RotaryArgs {
  RotaryPart parts[3];  // q, k, v
  int part_count = 3;
  void* to = nullptr;            // BF16 [batch, tokens, all_heads, size]: the parts one after the other
  std::int64_t all_heads = 0;    // of a token in `to`, at least those of the parts together
  const float* table = nullptr;  // [tokens, size]: size / 2 cosines, size / 2 sines
  float direction = 1;
  std::int64_t batch = 0;
  std::int64_t tokens = 0;
  std::int64_t size = 0;  // of a head: a multiple of 16
};

// May work in place: `from` a part of `to`.
void rotary(const RotaryArgs& args, Stream stream);

}  // namespace ufp4::cuda
