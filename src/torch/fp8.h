// Products of E4M3 operands on tensor cores that multiply them, one set of functions a kind of device. Work goes on
// after the return, in the order of torch's stream.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "torch/gemm.h"
#include "ufp4/quantize.h"

namespace ufp4 {

struct Fp8Kernels {
  // Whether the device has such tensor cores.
  bool (*available)(const at::Device& device) = nullptr;
  // Writes a [m, k1] times the transpose of b [n, k2], both fp8 with a dense last axis, to `out` [m, n], BF16 or FP32,
  // or adds it. The sums are FP32 throughout (no "fast accumulation"). k1, k2 and n must be multiples of 16: throws
  // InputError otherwise, RunError if there is no GEMM for the shape.
  void (*gemm)(const at::Tensor& out, const GemmOperand& a, const GemmOperand& b, Accumulate accumulate) = nullptr;
  // int4_p2: code * block scale of packed codes, dense [rows, columns], exact.
  void (*dequantize)(const ConstQuantized& in, std::uint8_t* out) = nullptr;
};

// Whether linears can run as fp8 on `device` in this build.
bool has_fp8(const at::Device& device);

// Throws InputError where has_fp8 is false.
const Fp8Kernels& fp8_kernels_of(const at::Device& device);

}  // namespace ufp4

// Only in a build with CUDA.
namespace ufp4::cuda_fp8 {
extern const Fp8Kernels kKernels;
}  // namespace ufp4::cuda_fp8
