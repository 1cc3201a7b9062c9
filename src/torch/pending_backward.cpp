#include "torch/pending_backward.h"

#include <torch/csrc/autograd/graph_task.h>

#include <mutex>
#include <unordered_map>

#include "ufp4/error.h"

namespace ufp4::ops {
namespace {

struct ClockUse {
  std::int64_t pending = 0;
  bool has_forward = false;
  std::uint32_t version = 0;  // of the step tensor in the last forward pass that is no repetition
};

// By the storage of the step tensor: views of it and saved copies of the handle are the same clock.
std::unordered_map<const void*, ClockUse>& uses() {
  static std::unordered_map<const void*, ClockUse> of_clocks;
  return of_clocks;
}

std::mutex& lock() {
  static std::mutex mutex;
  return mutex;
}

// Null for tensors without memory of their own, which tracing makes.
const void* clock_of(const at::Tensor& step) {
  return step.defined() && step.has_storage() ? step.storage().unsafeGetStorageImpl() : nullptr;
}

}  // namespace

PendingBackward::PendingBackward(const at::Tensor& step) : clock_(clock_of(step)) {
  if (clock_ == nullptr) return;
  const std::scoped_lock guard(lock());
  ++uses()[clock_].pending;
}

PendingBackward::~PendingBackward() { done(); }

void PendingBackward::done() {
  if (clock_ == nullptr) return;
  const std::scoped_lock guard(lock());
  const auto use = uses().find(clock_);
  clock_ = nullptr;
  if (use == uses().end()) return;
  if (--use->second.pending <= 0 && !use->second.has_forward) uses().erase(use);
}

std::int64_t pending_backward(const at::Tensor& step) {
  const std::scoped_lock guard(lock());
  const auto use = uses().find(clock_of(step));
  return use == uses().end() ? 0 : use->second.pending;
}

void check_clock(const at::Tensor& step) {
  const void* const clock = clock_of(step);
  if (clock == nullptr || step.is_inference()) return;
  const auto version = static_cast<std::uint32_t>(step._version());
  const std::scoped_lock guard(lock());
  if (torch::autograd::get_current_graph_task_id() == -1) {
    ClockUse& use = uses()[clock];
    use.has_forward = true;
    use.version = version;
    return;
  }
  const auto use = uses().find(clock);
  if (use != uses().end() && use->second.has_forward && use->second.version != version) {
    throw InputError(
        "linear: the clock moved between a forward pass and its repetition in the backward pass (activation "
        "checkpointing); move it after the backward pass");
  }
}

}  // namespace ufp4::ops
