#include "torch/gemm.h"

#include <ATen/cpu/Utils.h>
#include <ATen/ops/mm.h>

#include <algorithm>

namespace ufp4 {
namespace {

bool cpu_has_fast_bf16() {
  const auto capabilities = at::cpu::get_cpu_capabilities();
  const auto has = [&](const char* name) {
    const auto found = capabilities.find(name);
    return found != capabilities.end() && found->second.isBool() && found->second.toBool();
  };
  return has("avx512_bf16") || has("amx_bf16") || has("arm_bf16") || has("bf16");
}

}  // namespace

bool has_fast_bf16(const at::Device& device) {
  static const bool on_cpu = cpu_has_fast_bf16();
  return !device.is_cpu() || on_cpu;
}

std::string_view gemm_description(const at::Device& device) {
  return has_fast_bf16(device) ? "emulated: bf16" : "emulated: fp32 (no fast bf16 here)";
}

at::Tensor matmul_transposed(const at::Tensor& a, const at::Tensor& b) {
  const c10::SymInt depth = std::min(a.sym_size(1), b.sym_size(1));
  const at::Tensor a_part = a.sym_size(1) == depth ? a : a.narrow_symint(1, 0, depth);
  const at::Tensor b_part = b.sym_size(1) == depth ? b : b.narrow_symint(1, 0, depth);
  if (has_fast_bf16(a.device())) return at::mm(a_part, b_part.t());
  return at::mm(a_part.to(at::kFloat), b_part.to(at::kFloat).t()).to(at::kBFloat16);
}

}  // namespace ufp4
