// The GEMMs under the emulated quantized linear: BF16 operands, FP32 accumulation.
#pragma once

#include <ATen/core/Tensor.h>

#include <string_view>

namespace ufp4 {

// a [m, k1] times the transpose of b [n, k2], both BF16: [m, n] in BF16. Where one operand is padded further along the
// contraction axis than the other, the common part is multiplied: beyond it the shorter one stands for zeros.
at::Tensor matmul_transposed(const at::Tensor& a, const at::Tensor& b);

// The same product in FP32. On a GPU the sums themselves; elsewhere rounded to BF16 on the way, as torch's product
// does.
at::Tensor matmul_transposed_f32(const at::Tensor& a, const at::Tensor& b);

// Adds that to `sum` [m, n] FP32: on a GPU within the product, without another pass over memory.
void add_matmul_transposed(at::Tensor& sum, const at::Tensor& a, const at::Tensor& b);

// Whether this machine multiplies BF16 fast on `device`. If not, matmul_transposed multiplies the same BF16 operands in
// FP32 and rounds the result.
bool has_fast_bf16(const at::Device& device);

// What matmul_transposed runs on `device`, for the log: "emulated: bf16" or "emulated: fp32 (no fast bf16 here)".
std::string_view gemm_description(const at::Device& device);

}  // namespace ufp4
