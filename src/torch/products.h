// The products under the quantized linear, as a table: a row is a name, the form of the operands that it takes, and a
// function. All have sums in FP32.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "torch/quantized_tensor.h"
#include "ufp4/recipe.h"

namespace ufp4 {

// Whether a product overwrites what is there or is added to it.
enum class Accumulate : std::uint8_t { kOverwrite, kAdd };

// What is computed: out [m, n] = a [m, k] times the transpose of b [n, k], or that added to `out`.
struct ProductShape {
  std::int64_t m = 0;
  std::int64_t n = 0;
  std::int64_t k = 0;       // what both operands have: beyond it the shorter one stands for zeros
  std::int64_t groups = 1;  // products of this shape, one after another; more than one is for rows that say so
  at::ScalarType out = at::kBFloat16;  // or kFloat: the sums themselves
  Accumulate accumulate = Accumulate::kOverwrite;

  bool operator==(const ProductShape&) const = default;
};

// "bf16 [m, k] x [k, n] -> FP32, added": for messages.
std::string describe(std::string_view product, const ProductShape& shape);

struct Product {
  std::string_view name;
  Form form;                   // of both operands
  std::int64_t side_multiple;  // what every side of a product must be a multiple of
  std::string_view needs;      // of the device, for messages: "FP8 tensor cores"
  // Whether operands that are quantized so have that form without loss.
  bool (*takes)(const OperandSpec& a, const OperandSpec& b);
  // Whether the device has what it needs, in this build.
  bool (*available)(const at::Device& device);
  // Writes to `out`, dense, of the shape and type that `shape` says.
  void (*run)(const ProductShape& shape, const QuantizedTensor& a, const QuantizedTensor& b, at::Tensor& out);
};

// All rows. "bf16": dequantized operands and BF16 instructions; "fp32": the same values in FP32, for processors where
// BF16 is slow; "fp8": E4M3 values under one scale for each tensor on tensor cores that multiply them; "int8": integers
// under a scale for each row or segment, with the same bits on every device (torch/int8_product.h).
std::span<const Product> products();

// Throws InputError that lists the names.
const Product& find_product(std::string_view name);

// What multiplies dequantized operands on `device`: "bf16", or on a processor without fast BF16 "fp32".
const Product& emulated_product(const at::Device& device);

// The faster one on a processor with these features, named as torch names them ("avx512_bf16").
const Product& cpu_product(std::span<const std::string_view> features);

// While it lives, the CPU takes this one, whatever it is good at: shows here what another machine would compute. For
// the whole process, and one at a time.
class ForcedCpuProduct {
 public:
  explicit ForcedCpuProduct(const Product& product);
  ~ForcedCpuProduct();
  ForcedCpuProduct(const ForcedCpuProduct&) = delete;
  ForcedCpuProduct& operator=(const ForcedCpuProduct&) = delete;

 private:
  const Product* before_;
};

// Which products a caller allows for quantized operands.
enum class ProductChoice : std::uint8_t {
  kFastest,   // exact narrow ones where device, recipe and shapes have them
  kEmulated,  // dequantized operands only
};

// What multiplies in each of a recipe's GEMMs.
struct ChosenProducts {
  std::array<const Product*, 3> gemm{};  // by Gemm
  std::string description;               // for the log: what runs and, where a narrower one is not used, why

  const Product& operator[](Gemm g) const { return *gemm[static_cast<std::size_t>(g)]; }
};

// `sides`: all sides of the linears' weights.
ChosenProducts choose_products(const Recipe& recipe, const at::Device& device, std::span<const std::int64_t> sides,
                               ProductChoice choice);

// a [m, k1] times the transpose of b [n, k2] by `product`, in a new tensor.
at::Tensor multiply(const Product& product, const QuantizedTensor& a, const QuantizedTensor& b,
                    at::ScalarType out = at::kBFloat16);

// Writes that to `out` [m, n] FP32, or adds it: on a GPU within the product, without another pass over memory.
void multiply_into(at::Tensor& out, const Product& product, const QuantizedTensor& a, const QuantizedTensor& b,
                   Accumulate accumulate);

// Of BF16 matrices, by what the device takes.
at::Tensor matmul_transposed(const at::Tensor& a, const at::Tensor& b);

}  // namespace ufp4

// Only in a build with CUDA: cuBLASLt's product of E4M3 operands, without "fast accumulation".
namespace ufp4::cuda_fp8 {
bool available(const at::Device& device);
void run(const ProductShape& shape, const QuantizedTensor& a, const QuantizedTensor& b, at::Tensor& out);
}  // namespace ufp4::cuda_fp8
