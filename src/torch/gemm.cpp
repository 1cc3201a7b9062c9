#include "torch/gemm.h"

#include <ATen/cpu/Utils.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <utility>
#include <vector>

#include "torch/fp8.h"

namespace ufp4 {
namespace {

constexpr std::array<std::string_view, 4> kFastBf16{"avx512_bf16", "amx_bf16", "arm_bf16", "bf16"};

GemmKind this_cpu() {
  std::vector<std::string_view> features;
  const auto capabilities = at::cpu::get_cpu_capabilities();
  for (const auto& [name, value] : capabilities) {
    if (value.isBool() && value.toBool()) features.push_back(name);
  }
  return cpu_gemm_kind(features);
}

std::atomic<GemmKind>& on_cpu() {
  static std::atomic<GemmKind> kind{this_cpu()};
  return kind;
}

// The part of the contraction axis that both operands have.
std::pair<at::Tensor, at::Tensor> common_depth(const at::Tensor& a, const at::Tensor& b) {
  const c10::SymInt depth = std::min(a.sym_size(1), b.sym_size(1));
  return {a.sym_size(1) == depth ? a : a.narrow_symint(1, 0, depth),
          b.sym_size(1) == depth ? b : b.narrow_symint(1, 0, depth)};
}

}  // namespace

GemmKind cpu_gemm_kind(std::span<const std::string_view> features) {
  const bool fast =
      std::find_first_of(features.begin(), features.end(), kFastBf16.begin(), kFastBf16.end()) != features.end();
  return fast ? GemmKind::kBf16 : GemmKind::kFp32;
}

GemmKind gemm_kind(const at::Device& device) { return device.is_cpu() ? on_cpu().load() : GemmKind::kBf16; }

ForcedCpuGemm::ForcedCpuGemm(GemmKind kind) : before_(on_cpu().exchange(kind)) {}

ForcedCpuGemm::~ForcedCpuGemm() { on_cpu() = before_; }

std::string_view description(GemmKind kind) { return kind == GemmKind::kBf16 ? "bf16" : "fp32 (no fast bf16 here)"; }

at::Tensor matmul_transposed(const at::Tensor& any_a, const at::Tensor& any_b, GemmKind kind) {
  const auto [a, b] = common_depth(any_a, any_b);
  if (kind == GemmKind::kBf16) return at::mm(a, b.t());
  return at::mm(a.to(at::kFloat), b.to(at::kFloat).t()).to(at::kBFloat16);
}

at::Tensor matmul_transposed(const at::Tensor& a, const at::Tensor& b) {
  return matmul_transposed(a, b, gemm_kind(a.device()));
}

at::Tensor matmul_transposed(const GemmOperand& a, const GemmOperand& b) {
  if (!a.fp8()) return matmul_transposed(a.values, b.values);
  at::Tensor out = at::empty({a.values.size(0), b.values.size(0)}, a.values.options().dtype(at::kBFloat16));
  fp8_kernels_of(out.device()).gemm(out, a, b, Accumulate::kOverwrite);
  return out;
}

at::Tensor matmul_transposed_f32(const GemmOperand& any_a, const GemmOperand& any_b) {
  if (any_a.fp8()) {
    at::Tensor out = at::empty({any_a.values.size(0), any_b.values.size(0)}, any_a.values.options().dtype(at::kFloat));
    fp8_kernels_of(out.device()).gemm(out, any_a, any_b, Accumulate::kOverwrite);
    return out;
  }
  if (!any_a.values.is_cuda()) return matmul_transposed(any_a, any_b).to(at::kFloat);
  const auto [a, b] = common_depth(any_a.values, any_b.values);
  return at::mm(a, b.t(), at::kFloat);
}

void matmul_transposed_into(at::Tensor& out, const GemmOperand& any_a, const GemmOperand& any_b,
                            Accumulate accumulate) {
  if (any_a.fp8()) return fp8_kernels_of(out.device()).gemm(out, any_a, any_b, accumulate);
  const bool add = accumulate == Accumulate::kAdd;
  if (!any_a.values.is_cuda()) {
    const at::Tensor product = matmul_transposed(any_a, any_b);
    add ? out.add_(product) : out.copy_(product);
    return;
  }
  const auto [a, b] = common_depth(any_a.values, any_b.values);
  if (add) {
    at::addmm_out(out, out, a, b.t(), at::kFloat);
  } else {
    at::mm_out(out, a, b.t(), at::kFloat);
  }
}

}  // namespace ufp4
