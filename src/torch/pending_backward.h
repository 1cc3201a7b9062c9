// Forward passes whose backward pass is still to come, and a clock that moved between the two. The backward pass draws
// its random bits from the step that the clock shows then, and activation checkpointing quantizes x again by it: after
// a move both would silently be those of another step.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace ufp4::ops {

// One forward pass under a clock's step tensor. Counts while it lives and is not done.
class PendingBackward {
 public:
  // Nothing is counted for an undefined tensor.
  explicit PendingBackward(const at::Tensor& step);
  ~PendingBackward();
  PendingBackward(const PendingBackward&) = delete;
  PendingBackward& operator=(const PendingBackward&) = delete;

  void done();

 private:
  const void* clock_ = nullptr;
};

// How many are pending under this step tensor.
std::int64_t pending_backward(const at::Tensor& step);

// Called by every forward pass that computes. One that autograd's engine runs is a repetition: throws InputError if the
// step tensor was written since the forward pass before.
void check_clock(const at::Tensor& step);

}  // namespace ufp4::ops
