#include "train/device.h"

#include <ATen/Context.h>

#include <algorithm>

#include "torch/kernels.h"
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
      const OperandRecipe& operand = gemm.operand[i];
      if (!operand.quantized() || kernels_of(kGpu).take(*operand.format, operand.outer)) continue;
      const bool outer = operand.outer != OuterScale::kTensor;
      return "format '" + std::string(operand.format->name) + "' " +
             (outer ? "with second-level scales for each " + std::string(name_of(operand.outer)) + " " : "") +
             "has no GPU kernels (recipe " + recipe.name + ", " + std::string(gemm.name) + "." +
             std::string(gemm.operands[i]) + ")";
    }
  }
  return {};
}

std::string obstacle(std::span<const Recipe> recipes) {
  std::string found = missing_gpu();
  for (std::size_t i = 0; found.empty() && i < recipes.size(); ++i) found = missing_kernels(recipes[i]);
  return found;
}

}  // namespace

DeviceChoice choose_device(const std::string& name, const std::string& setting, std::span<const Recipe> recipes) {
  if (name == "cpu") return {at::kCPU, ""};
  const std::string found = obstacle(recipes);
  if (!found.empty() && name == "auto") return {at::kCPU, "on the CPU: " + found};
  if (!found.empty()) throw InputError(setting + " is 'cuda', but " + found + "; use the CPU");
  // FP32 accumulation throughout: cuBLAS may otherwise add partial sums of a product in BF16.
  at::globalContext().setAllowBF16ReductionCuBLAS(false);
  return {kGpu, ""};
}

}  // namespace ufp4
