// The parts between the linears as single passes over memory, for tensors on the CPU: BF16 in and out, FP32 inside.
// Plain arrays; the caller splits rows over threads.
#pragma once

#include <cstdint>

namespace ufp4::cpu_layers {

using Bf16 = std::uint16_t;

// rstd[r] = 1 / sqrt(mean(x[r]^2) + epsilon), of x or, where `branch` is given, of x + branch, which goes to `sum`. All
// dense.
void rms_statistics(const Bf16* x, const Bf16* branch, double epsilon, std::int64_t rows, std::int64_t size, Bf16* sum,
                    float* rstd);

// out[r] = x[r] * rstd[r] * weight.
void rms_norm(const Bf16* x, const float* weight, const float* rstd, std::int64_t rows, std::int64_t size, Bf16* out);

// dx, to which `residual` is added where it is given, and the gradient of the weight added to dweight.
void rms_norm_backward(const Bf16* x, const float* weight, const float* rstd, const Bf16* dy, const Bf16* residual,
                       std::int64_t rows, std::int64_t size, Bf16* dx, float* dweight);

// out[r] = silu(gate) * up with x[r] = (gate, up), each of `half` values; all dense.
void swiglu(const Bf16* x, std::int64_t rows, std::int64_t half, Bf16* out);
void swiglu_backward(const Bf16* x, const Bf16* dy, std::int64_t rows, std::int64_t half, Bf16* dx);

// out[h] = x[h] turned by the angles of one position, for `heads` heads of 2 * half values: cos and sin have `half`
// values each. `direction` is 1, or -1 for the gradient. Heads of x are `stride` elements apart, those of out dense;
// out may be x.
void rotate(const Bf16* x, std::int64_t stride, const float* cos, const float* sin, float direction, std::int64_t heads,
            std::int64_t half, Bf16* out);

}  // namespace ufp4::cpu_layers
