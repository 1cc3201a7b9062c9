// Cross-entropy of rows of logits on the GPU, and its gradient in place of the logits.
#pragma once

#include <cstdint>

#include "cuda/quantize.h"

namespace ufp4::cuda {

struct CrossEntropyArgs {
  void* logits = nullptr;                 // BF16 [rows, columns], dense
  const std::int64_t* targets = nullptr;  // [rows]; one beyond [0, columns) gives NaN
  float* losses = nullptr;                // [rows]: -log softmax(logits)[target], in nats
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  bool gradient = false;  // whether the logits are overwritten with (softmax - one hot) * scale, rounded to BF16
  float scale = 1;
};

void cross_entropy(const CrossEntropyArgs& args, Stream stream);

}  // namespace ufp4::cuda
