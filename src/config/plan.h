// What a run will take, from its configuration alone: operations, bytes and the time of a step on a device whose rates
// were measured.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "config/run_config.h"

namespace ufp4 {

// What steps on a device have reached, as shares of its maker's peaks and of its own copy rate: fitted to the measured
// steps of docs/performance.md.
struct DeviceRates {
  std::string_view name;
  std::string_view summary;
  double bf16_flops = 0;       // a second, of products in BF16
  double fp8_flops = 0;        // of products of E4M3 operands
  double attention_flops = 0;  // of the two products of attention, causal halves left out
  double copy_bytes = 0;       // a second, read and written
  double layer_share = 0;      // of the copy rate in norms, rotary positions and SwiGLU
  double memory = 0;           // bytes
};

std::span<const DeviceRates> known_devices();
// Throws InputError with a near name.
const DeviceRates& find_device(std::string_view name);

// Seconds of a step on one device.
struct StepTime {
  double linears = 0;
  double head = 0;
  double attention = 0;
  double quantization = 0;  // with the stash
  double layers = 0;        // norms, rotary positions, SwiGLU, residual sums
  double optimizer = 0;
  double total() const { return linears + head + attention + quantization + layers + optimizer; }
};

// `tokens` a step. The linears of a recipe whose operands all are of int4_p2 multiply on FP8 tensor cores.
StepTime step_time(const ModelConfig& model, const Recipe& recipe, std::int64_t tokens, const DeviceRates& device);

}  // namespace ufp4
