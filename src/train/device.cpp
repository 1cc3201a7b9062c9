#include "train/device.h"

#include <ATen/Context.h>

#include <algorithm>

#include "torch/device_kernels.h"
#include "ufp4/backend.h"
#include "ufp4/error.h"

namespace ufp4 {
namespace {

const at::Device kGpu(at::kCUDA, 0);

// Why no model can run on the GPU; empty if one can.
std::string missing_gpu() {
  if (!has_kernels(kGpu)) return "this build has no CUDA kernels (configure with -DUFP4_CUDA=ON)";
  const auto all = backends();
  const auto cuda = std::find_if(all.begin(), all.end(), [](const Backend* b) { return b->name() == "cuda"; });
  if (cuda != all.end() && !(*cuda)->available()) return std::string((*cuda)->description());
  const bool seen = at::hasCUDA() && at::globalContext().getAcceleratorHooksInterface(at::kCUDA).deviceCount() > 0;
  return seen ? "" : "torch finds no CUDA device";
}

// Why its kernels do not serve the recipe; empty if they do.
std::string missing_kernels(const Recipe& recipe) {
  for (const GemmRecipe& gemm : recipe.gemm) {
    for (std::size_t i = 0; i < gemm.operand.size(); ++i) {
      const OperandSpec& operand = gemm.operand[i];
      if (!operand.quantized() || kernels_of(kGpu).take(operand)) continue;
      const bool outer = operand.outer_each() != OuterScale::kTensor;
      return "format '" + std::string(operand.format->name) + "' " +
             (outer ? "with second-level scales for each " + std::string(name_of(operand.outer_each())) + " " : "") +
             "has no GPU kernels (recipe " + recipe.name + ", " + std::string(gemm.name) + "." +
             std::string(gemm.operands[i]) + ")";
    }
  }
  return {};
}

// Why its kernels do not serve the model; empty if they do.
std::string missing_layers(const ModelConfig& model) {
  const LayerLimits& limits = kernels_of(kGpu).layers->limits;
  const auto refuse = [](const std::string& what, std::int64_t value, const std::string& expected) {
    return "its layers take no " + what + " of " + std::to_string(value) + ", only " + expected;
  };
  const auto multiple = [](std::int64_t of) { return "multiples of " + std::to_string(of); };
  if (model.head_size() % limits.head_multiple != 0) {
    return refuse("heads (model.d_model / model.heads)", model.head_size(), multiple(limits.head_multiple));
  }
  if (model.d_model % limits.width_multiple != 0) {
    return refuse("model.d_model", model.d_model, multiple(limits.width_multiple));
  }
  if (model.ffn % limits.width_multiple != 0) return refuse("model.ffn", model.ffn, multiple(limits.width_multiple));
  if (model.attention_size() % limits.width_multiple != 0) {
    return refuse("model.heads * model.head_size", model.attention_size(), multiple(limits.width_multiple));
  }
  if (model.qk_norm && model.qk_norm_width == QkNormWidth::kAll && model.attention_size() > limits.largest_norm) {
    return refuse("model.heads * model.head_size", model.attention_size(),
                  "up to " + std::to_string(limits.largest_norm) + " with model.qk_norm_width = all");
  }
  if (model.d_model > limits.largest_norm) {
    return refuse("model.d_model", model.d_model, "up to " + std::to_string(limits.largest_norm));
  }
  return {};
}

std::string obstacle(const ModelConfig& model, std::span<const Recipe> recipes) {
  std::string found = missing_gpu();
  if (found.empty()) found = missing_layers(model);
  for (std::size_t i = 0; found.empty() && i < recipes.size(); ++i) found = missing_kernels(recipes[i]);
  return found;
}

}  // namespace

DeviceChoice choose_device(DeviceKind asked, const std::string& setting, const ModelConfig& model,
                           std::span<const Recipe> recipes) {
  if (asked == DeviceKind::kCpu) return {at::kCPU, ""};
  const std::string found = obstacle(model, recipes);
  if (!found.empty() && asked == DeviceKind::kAuto) return {at::kCPU, "on the CPU: " + found};
  if (!found.empty()) throw InputError(setting + " is 'cuda', but " + found + "; use the CPU");
  // FP32 accumulation throughout: cuBLAS may otherwise add partial sums of a product in BF16.
  at::globalContext().setAllowBF16ReductionCuBLAS(false);
  return {kGpu, ""};
}

}  // namespace ufp4
