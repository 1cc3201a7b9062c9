// For the kernels of torch that add with atomics, in an order that varies, unless they are told not to.
#pragma once

#include <ATen/Context.h>

namespace ufp4 {

// While it lives, torch takes sums in a fixed order where it can.
class DeterministicScope {
 public:
  DeterministicScope() {
    context_.setDeterministicAlgorithms(true, false);
    context_.setDeterministicFillUninitializedMemory(false);
  }
  ~DeterministicScope() {
    context_.setDeterministicAlgorithms(algorithms_, false);
    context_.setDeterministicFillUninitializedMemory(fill_);
  }
  DeterministicScope(const DeterministicScope&) = delete;
  DeterministicScope& operator=(const DeterministicScope&) = delete;

 private:
  at::Context& context_ = at::globalContext();
  bool algorithms_ = context_.deterministicAlgorithms();
  bool fill_ = context_.deterministicFillUninitializedMemory();
};

}  // namespace ufp4
