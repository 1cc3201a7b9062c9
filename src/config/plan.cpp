#include "config/plan.h"

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "numerics/near_name.h"
#include "ufp4/error.h"
#include "ufp4/format.h"

namespace ufp4 {
namespace {

// 989.4 and 1979 TFLOP/s are the maker's dense peaks; copies within the device were measured.
constexpr std::array kDevices{DeviceRates{.name = "h200",
                                          .summary = "NVIDIA H200, steps of 2026-11-23",
                                          .bf16_flops = 989.4e12 / 1.43,
                                          .fp8_flops = 1979e12 / 1.54,
                                          .attention_flops = 989.4e12,
                                          .copy_bytes = 4.12e12,
                                          .layer_share = 1 / 2.7,
                                          .memory = 139.0 * 1024 * 1024 * 1024}};

// Of a linear in a layer: what it reads and makes of a token, and its weights.
struct LinearShape {
  double in = 0;
  double out = 0;
};

std::array<LinearShape, 4> linears_of(const ModelConfig& c) {
  const auto d = static_cast<double>(c.d_model);
  const auto attended = static_cast<double>(c.attention_size());
  const auto ffn = static_cast<double>(c.ffn);
  return {LinearShape{d, static_cast<double>(c.qkv_size())}, {attended, d}, {d, 2 * ffn}, {ffn, d}};
}

bool on_fp8(const Recipe& recipe) {
  for (const GemmRecipe& gemm : recipe.gemm) {
    for (const OperandSpec& operand : gemm.operand) {
      if (!operand.quantized() || operand.format->name != "int4_p2") return false;
    }
  }
  return true;
}

}  // namespace

std::span<const DeviceRates> known_devices() { return kDevices; }

const DeviceRates& find_device(std::string_view name) {
  std::vector<std::string_view> names;
  for (const DeviceRates& device : kDevices) {
    if (device.name == name) return device;
    names.push_back(device.name);
  }
  throw InputError("--on is '" + std::string(name) + "'" + name_hint(name, names));
}

StepTime step_time(const ModelConfig& model, const Recipe& recipe, std::int64_t tokens, const DeviceRates& device) {
  const auto n = static_cast<double>(tokens);
  const auto layers = static_cast<double>(model.layers);
  const auto d = static_cast<double>(model.d_model);
  const auto head_weights = static_cast<double>(model.vocab_size) * d;
  const bool fp8 = on_fp8(recipe);
  const double operand_bytes = fp8 ? 1 : 2;  // as a product reads it
  StepTime time;
  double weights = 0;
  double quantized_bytes = 0;
  for (const LinearShape& linear : linears_of(model)) {
    weights += linear.in * linear.out;
    // x is read, written for fprop and in 4 bits with its scales, and read from there for wgrad; dy is read once and
    // written for both passes; the weight is read in FP32 and written for both passes.
    const double x = 2 + operand_bytes + 2 * 0.75 + operand_bytes;
    const double dy = 2 + 2 * operand_bytes;
    quantized_bytes += n * (linear.in * x + linear.out * dy) + linear.in * linear.out * (4 + 2 * operand_bytes);
  }
  quantized_bytes += n * 2 * 2 * static_cast<double>(model.ffn);  // SwiGLU's source has twice its result
  time.linears = 6 * n * layers * weights / (fp8 ? device.fp8_flops : device.bf16_flops);
  time.head = 6 * n * head_weights / device.bf16_flops;
  // Two products forward, five backward (the probabilities are made anew), half of each masked.
  time.attention = 7 * n * layers * static_cast<double>(model.context) * static_cast<double>(model.attention_size()) /
                   device.attention_flops;
  if (recipe.quantized()) time.quantization = layers * quantized_bytes / device.copy_bytes;
  const double elements = 16 * d + 10 * static_cast<double>(model.ffn) + 4 * static_cast<double>(model.qkv_size());
  time.layers = n * layers * 2 * elements / (device.copy_bytes * device.layer_share);
  time.optimizer = 36 * static_cast<double>(parameter_count(model)) / device.copy_bytes;
  return time;
}

}  // namespace ufp4
