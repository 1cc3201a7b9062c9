// The GEMMs under the quantized linear, all with FP32 accumulation: "emulated", of operands that were dequantized to
// BF16, and "fp8", of int4_p2 operands as exact E4M3 numbers on tensor cores that multiply those.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <string_view>

namespace ufp4 {

// One operand [rows, k], the contraction axis last.
struct GemmOperand {
  at::Tensor values;  // BF16, or Float8_e4m3fn
  at::Tensor scale;   // of Float8_e4m3fn: F32, one value on the device, the factor of all; undefined for BF16

  bool fp8() const { return scale.defined(); }
};

// What multiplies BF16 operands.
enum class GemmKind : std::uint8_t {
  kBf16,  // BF16 instructions
  kFp32,  // the same values in FP32, the result rounded to BF16: for processors where BF16 is slow
};

// The faster one on a processor with these features, named as torch names them ("avx512_bf16").
GemmKind cpu_gemm_kind(std::span<const std::string_view> features);

// What this machine takes on `device`.
GemmKind gemm_kind(const at::Device& device);

// While it lives, the CPU takes this kind, whatever it is good at: shows here what another machine would compute. For
// the whole process, and one at a time.
class ForcedCpuGemm {
 public:
  explicit ForcedCpuGemm(GemmKind kind);
  ~ForcedCpuGemm();
  ForcedCpuGemm(const ForcedCpuGemm&) = delete;
  ForcedCpuGemm& operator=(const ForcedCpuGemm&) = delete;

 private:
  GemmKind before_;
};

// For the log: "bf16" or "fp32 (no fast bf16 here)".
std::string_view description(GemmKind kind);

// a [m, k1] times the transpose of b [n, k2], both BF16: [m, n] in BF16. Where one operand is padded further along the
// contraction axis than the other, the common part is multiplied: beyond it the shorter one stands for zeros.
at::Tensor matmul_transposed(const at::Tensor& a, const at::Tensor& b, GemmKind kind);

// By what this machine takes on their device.
at::Tensor matmul_transposed(const at::Tensor& a, const at::Tensor& b);
at::Tensor matmul_transposed(const GemmOperand& a, const GemmOperand& b);

// The same product in FP32. On a GPU the sums themselves; elsewhere rounded to BF16 on the way, as torch's product
// does.
at::Tensor matmul_transposed_f32(const GemmOperand& a, const GemmOperand& b);

// Whether a product overwrites what is there or is added to it.
enum class Accumulate : std::uint8_t { kOverwrite, kAdd };

// Writes that to `out` [m, n] FP32, or adds it: on a GPU within the product, without another pass over memory.
void matmul_transposed_into(at::Tensor& out, const GemmOperand& a, const GemmOperand& b, Accumulate accumulate);

}  // namespace ufp4
