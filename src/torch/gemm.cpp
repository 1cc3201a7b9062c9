#include "torch/gemm.h"

#include <ATen/cpu/Utils.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/mm.h>

#include <algorithm>
#include <utility>

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

// The part of the contraction axis that both operands have.
std::pair<at::Tensor, at::Tensor> common_depth(const at::Tensor& a, const at::Tensor& b) {
  const c10::SymInt depth = std::min(a.sym_size(1), b.sym_size(1));
  return {a.sym_size(1) == depth ? a : a.narrow_symint(1, 0, depth),
          b.sym_size(1) == depth ? b : b.narrow_symint(1, 0, depth)};
}

}  // namespace

bool has_fast_bf16(const at::Device& device) {
  static const bool on_cpu = cpu_has_fast_bf16();
  return !device.is_cpu() || on_cpu;
}

std::string_view gemm_description(const at::Device& device) {
  return has_fast_bf16(device) ? "emulated: bf16" : "emulated: fp32 (no fast bf16 here)";
}

at::Tensor matmul_transposed(const at::Tensor& any_a, const at::Tensor& any_b) {
  const auto [a, b] = common_depth(any_a, any_b);
  if (has_fast_bf16(a.device())) return at::mm(a, b.t());
  return at::mm(a.to(at::kFloat), b.to(at::kFloat).t()).to(at::kBFloat16);
}

at::Tensor matmul_transposed_f32(const at::Tensor& any_a, const at::Tensor& any_b) {
  if (!any_a.is_cuda()) return matmul_transposed(any_a, any_b).to(at::kFloat);
  const auto [a, b] = common_depth(any_a, any_b);
  return at::mm(a, b.t(), at::kFloat);
}

void add_matmul_transposed(at::Tensor& sum, const at::Tensor& any_a, const at::Tensor& any_b) {
  if (!any_a.is_cuda()) {
    sum.add_(matmul_transposed(any_a, any_b));
    return;
  }
  const auto [a, b] = common_depth(any_a, any_b);
  at::addmm_out(sum, sum, a, b.t(), at::kFloat);
}

}  // namespace ufp4
