#include "train/gemm_choice.h"

#include "torch/fp8.h"
#include "torch/gemm.h"

namespace ufp4 {
namespace {

// Leading dimensions of E4M3 matrices are multiples of 16.
bool fits_fp8(const ModelConfig& model) {
  return model.d_model % 16 == 0 && model.ffn % 16 == 0 && model.qkv_size() % 16 == 0;
}

}  // namespace

GemmChoice choose_gemm(const RunConfig& config, const c10::Device& device) {
  std::string fp8;
  bool all = true;
  for (const GemmRecipe& gemm : config.recipe.gemm) {
    if (path_of(gemm, GemmPath::kFp8) == GemmPath::kFp8) {
      fp8 += (fp8.empty() ? "" : ", ") + std::string(gemm.name);
    } else {
      all = false;
    }
  }
  const std::string bf16(description(gemm_kind(device)));
  if (!config.recipe.quantized()) return {GemmPath::kEmulated, bf16};
  const std::string emulated = "emulated: " + bf16;
  if (fp8.empty() || config.train.gemm == "emulated") return {GemmPath::kEmulated, emulated};
  if (!has_fp8(device)) return {GemmPath::kEmulated, emulated + " (no FP8 tensor cores here)"};
  if (!fits_fp8(config.model)) {
    return {GemmPath::kEmulated, emulated + " (FP8 tensor cores need sides that are multiples of 16)"};
  }
  return {GemmPath::kFp8, all ? "fp8" : "fp8: " + fp8 + "; the rest " + emulated};
}

}  // namespace ufp4
