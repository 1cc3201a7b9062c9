// Where the random bits of one training step come from, and who watches it. Passed explicitly: there is no global
// generator.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace ufp4 {

// Which of the six operands of a linear layer draws: the stream of layer l is 8 * l + operand.
enum class Operand : std::uint32_t {
  kFpropX = 0,
  kFpropW = 1,
  kDgradDy = 2,
  kDgradW = 3,
  kWgradDy = 4,
  kWgradX = 5,
};

constexpr std::uint32_t stream_of(std::uint32_t layer, Operand operand) {
  return 8 * layer + static_cast<std::uint32_t>(operand);
}

class LinearObserver;
class Windows;

struct RandomContext {
  std::uint64_t seed = 0;              // of the run; it gives the Hadamard masks too
  std::uint32_t step = 0;              // of the optimizer
  std::uint32_t token_offset = 0;      // of this micro-batch's first token among the tokens of the step
  at::Tensor device_step{};            // one int32 on a GPU that kernels read instead of `step`, for recorded work
  LinearObserver* observer = nullptr;  // told of every operand and result (torch/linear_observer.h); null: nobody
  const Windows* windows = nullptr;    // what operands are expected to hold (torch/window.h); null: found in each
};

}  // namespace ufp4
