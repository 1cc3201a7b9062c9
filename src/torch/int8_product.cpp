#include "torch/int8_product.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <string>

#include "cpu/int8_product.h"
#include "ufp4/error.h"
#include "ufp4/format.h"

namespace ufp4::int8 {
namespace {

// The elements of a row that share a scale; 0: all. No two lengths of a segment cut a row into as many parts, where
// there is more than one.
std::int64_t segment_of(const QuantizedTensor& operand) {
  const std::int64_t columns = operand.values.size(1);
  const std::int64_t segments = operand.outer_scales.size(1);
  if (segments <= 1) return 0;
  for (const OuterScale outer : kOuterScales) {
    const std::int64_t each = columns_of(outer);
    if (each != 0 && (columns + each - 1) / each == segments) return each;
  }
  throw InputError("int8 product: " + std::to_string(segments) + " scales for rows of " + std::to_string(columns) +
                   " are no segments of 128, 256, 512 or 1024");
}

// What both have in their common depth. Rows that are padded differently may have one segment and two.
std::int64_t common_segment(const ProductShape& shape, const QuantizedTensor& a, const QuantizedTensor& b) {
  const std::int64_t of_a = segment_of(a);
  const std::int64_t of_b = segment_of(b);
  const std::int64_t longer = std::max(of_a, of_b);
  if (of_a == of_b || (std::min(of_a, of_b) == 0 && shape.k <= longer)) return longer;
  const auto text = [](std::int64_t each) { return each == 0 ? "a row" : std::to_string(each); };
  throw InputError(describe("int8", shape) + ": a has a scale for " + text(of_a) + ", b one for " + text(of_b) +
                   ", expected the same for both");
}

Int8Operand operand_of(const char* name, const QuantizedTensor& operand) {
  const at::Tensor& values = operand.values;
  const at::Tensor& scales = operand.outer_scales;
  if (values.scalar_type() != at::kChar || values.dim() != 2 || (values.size(1) > 1 && values.stride(1) != 1) ||
      values.size(1) % 16 != 0 || !scales.defined() || scales.scalar_type() != at::kFloat || scales.dim() != 2 ||
      scales.size(0) < values.size(0)) {
    throw InputError(
        std::string("int8 product: operand ") + name + " is " + c10::toString(values.scalar_type()) + " " +
        c10::str(values.sizes()) +
        ", expected Char, dense, with a contraction axis that is a multiple of 16, and Float scales of its "
        "rows");
  }
  return {.values = values.const_data_ptr<std::int8_t>(),
          .row_stride = values.stride(0),
          .scales = scales.const_data_ptr<float>(),
          .scale_row_stride = scales.stride(0),
          .scale_segment_stride = scales.stride(1)};
}

void run_on_cpu(const Int8Product& product) {
  const cpu::Int8ProductKernel& kernel = cpu::best_int8_product_kernel();
  const cpu::ProductTiles tiles = cpu::split_int8_product(product.m, product.n);
  at::parallel_for(0, tiles.count(), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) kernel.multiply(product, tiles[i]);
  });
}

}  // namespace

bool takes(const OperandSpec& a, const OperandSpec& b) {
  const auto exact = [](const OperandSpec& spec) {
    return spec.quantized() && spec.format->exact == ExactValue::kInt8;
  };
  return exact(a) && exact(b) && a.outer_each() == b.outer_each();
}

Int8Product description_of(const ProductShape& shape, const QuantizedTensor& a, const QuantizedTensor& b,
                           at::Tensor& out) {
  Int8Product product;
  product.m = shape.m;
  product.n = shape.n;
  product.k = shape.k;
  product.a = operand_of("a", a);
  product.b = operand_of("b", b);
  product.segment = common_segment(shape, a, b);
  const bool add = shape.accumulate == Accumulate::kAdd;
  if (shape.out != at::kFloat && add) {
    throw InputError(describe("int8", shape) + ": sums are added to FP32 results only");
  }
  product.result = shape.out != at::kFloat ? Int8Result::kBf16 : add ? Int8Result::kF32Added : Int8Result::kF32;
  product.out = out.mutable_data_ptr();
  product.out_row_stride = out.stride(0);
  return product;
}

#ifdef UFP4_HAVE_CUDA
bool available(const at::Device& device) { return device.is_cpu() || cuda_int8::available(device); }
#else
bool available(const at::Device& device) { return device.is_cpu(); }
#endif

void run(const ProductShape& shape, const QuantizedTensor& a, const QuantizedTensor& b, at::Tensor& out) {
  if (shape.m == 0 || shape.n == 0) return;
  const Int8Product product = description_of(shape, a, b, out);
  check(product);
  if (out.is_cpu()) return run_on_cpu(product);
#ifdef UFP4_HAVE_CUDA
  cuda_int8::run(product);
#else
  throw InputError(describe("int8", shape) + ": this build has no INT8 products for " + out.device().str() +
                   " (configure with -DUFP4_CUDA=ON)");
#endif
}

}  // namespace ufp4::int8
