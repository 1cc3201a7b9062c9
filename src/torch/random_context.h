// Where a call stands in a training run, and who watches it. Passed explicitly: there is no global generator.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "numerics/device_task.h"
#include "ufp4/recipe.h"

namespace ufp4 {

// The six operands of a linear layer's GEMMs. Each draws from a stream of its own: layer l, role r from 8 l + r.
enum class OperandRole : std::uint32_t {
  kFpropX = 0,
  kFpropW = 1,
  kDgradDy = 2,
  kDgradW = 3,
  kWgradDy = 4,
  kWgradX = 5,
};

inline constexpr std::int64_t kOperandRoles = 6;

// Of operand 0 or 1 of a GEMM.
constexpr OperandRole role_of(Gemm gemm, std::size_t operand) {
  return static_cast<OperandRole>(2 * static_cast<std::uint32_t>(gemm) + static_cast<std::uint32_t>(operand));
}

constexpr Gemm gemm_of(OperandRole role) { return static_cast<Gemm>(static_cast<std::uint32_t>(role) / 2); }
constexpr std::size_t index_of(OperandRole role) { return static_cast<std::size_t>(role) % 2; }

constexpr bool is_weight(OperandRole role) { return role == OperandRole::kFpropW || role == OperandRole::kDgradW; }

// The axis of the stored matrix (tokens or outputs by features) along which the operand's blocks run.
constexpr Axis axis_of(OperandRole role) {
  return role == OperandRole::kDgradW || gemm_of(role) == Gemm::kWgrad ? Axis::kColumn : Axis::kRow;
}

constexpr std::uint32_t stream_of(std::uint32_t layer, OperandRole role) {
  return kStreamsPerLayer * layer + static_cast<std::uint32_t>(role);
}

// Numbers that are known only where the work runs: one int32 each in the memory of its device, read when the kernel
// does. So work that was recorded or compiled once serves every step and layer. Undefined: the number beside it holds.
struct DeviceNumbers {
  at::Tensor step{};
  at::Tensor layer{};        // added to the layer's own number
  at::Tensor first_token{};  // added to the token offset
};

class LinearObserver;
class Windows;

struct RandomContext {
  std::uint64_t seed = 0;              // of the run; it gives the Hadamard masks too
  std::uint32_t step = 0;              // of the optimizer
  std::uint32_t token_offset = 0;      // of this micro-batch's first token among the tokens of the step
  std::uint32_t micro_batch = 0;       // within the step: the first one begins the gradients, others are added
  DeviceNumbers device{};              // in place of those numbers
  LinearObserver* observer = nullptr;  // told of every operand and result (torch/linear_observer.h); null: nobody
  const Windows* windows = nullptr;    // what operands are expected to hold (torch/window.h); null: found in each
};

}  // namespace ufp4
