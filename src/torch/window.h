// What the operands of a model's linears are expected to hold, from step to step, so that a format with a window of
// scales (int4_p2) knows its second-level scale before it reads them ("amax = delayed" of a recipe; numerics/window.h).
// A step expects of every operand what the step before found in it, with room; an operand that does not fit is
// quantized a second time, exactly, and counted.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "torch/random_context.h"

namespace ufp4 {

// One operand's place, in the memory of its device. All null: its amax is found in a pass of its own ("exact").
struct Window {
  const float* expected = nullptr;
  float* scratch = nullptr;      // kScratch values that are 0 between calls, for kernels on a GPU
  float* seen = nullptr;         // raised to what is found; null: nobody learns from this call
  std::int32_t* left = nullptr;  // counted up where the operand did not fit; likewise

  static constexpr std::int64_t kScratch = 3;
};

class Windows {
 public:
  // Of `linears` linears, on `device`. Nothing is expected at first: the first step finds every amax.
  Windows(std::int64_t linears, const at::Device& device);

  // Expects of a step what was seen since the last one began; nothing is counted yet. Enqueued like all work.
  void begin_step();

  Window at(std::uint32_t number, OperandRole role) const;

  // The same expectations for calls that leave no trace (validation).
  Windows frozen() const;

  // F32 [linears, 6]: what was seen since the step began. With it a checkpoint holds all there is.
  const at::Tensor& seen() const { return seen_; }
  // I32 [linears, 6]: how often each operand was quantized again since the step began.
  const at::Tensor& left() const { return left_; }

 private:
  at::Tensor expected_, seen_, left_, scratch_;
  bool record_ = true;
};

}  // namespace ufp4
