#include "torch/layer_ops.h"

#include <torch/library.h>

#include <cmath>
#include <string>
#include <string_view>

#include "torch/layer_passes.h"
#include "torch/op_arguments.h"
#include "torch/operand.h"
#include "torch/source.h"
#include "ufp4/error.h"

namespace ufp4::ops {
namespace {

void check_bf16_matrix(std::string_view name, const at::Tensor& t) {
  check_matrix(name, t);
  if (t.scalar_type() == at::kBFloat16) return;
  throw InputError(std::string(name) + " is " + dtype_name(t.scalar_type()) + ", expected BFloat16");
}

void check_same_device(std::string_view name, const at::Tensor& t, std::string_view other_name,
                       const at::Tensor& other) {
  if (t.device() == other.device()) return;
  throw InputError(std::string(name) + " is on " + t.device().str() + ", " + std::string(other_name) + " on " +
                   other.device().str());
}

void check_norm(const at::Tensor& x, const at::Tensor& weight, double epsilon) {
  check_bf16_matrix("x", x);
  if (weight.scalar_type() != at::kFloat || weight.dim() != 1 || weight.sym_size(0) != x.sym_size(1)) {
    throw InputError("the weight is " + dtype_name(weight.scalar_type()) + " " + c10::str(weight.sym_sizes()) +
                     ", expected Float " + c10::str(c10::SymIntArrayRef({x.sym_size(1)})) + ", one a column of x");
  }
  check_same_device("x", x, "the weight", weight);
  if (!std::isfinite(epsilon) || epsilon < 0) {
    throw InputError("epsilon is " + c10::str(epsilon) + ", expected a finite number that is not negative");
  }
}

void check_gated(const at::Tensor& h) {
  check_bf16_matrix("h", h);
  if (h.sym_size(1) % 2 == 0) return;
  throw InputError("h has " + c10::str(h.sym_size(1)) +
                   " columns, expected an even number: those of gate, then those of up");
}

void check_gradient(const at::Tensor& dy, const at::Tensor& h) {
  check_bf16_matrix("dy", dy);
  check_gated(h);
  if (dy.sym_size(0) != h.sym_size(0) || dy.sym_size(1) * 2 != h.sym_size(1)) {
    throw InputError("dy is " + c10::str(dy.sym_sizes()) + ", expected " +
                     c10::str(c10::SymIntArrayRef({h.sym_size(0), h.sym_size(1) / 2})) + ", half the columns of h");
  }
  check_same_device("dy", dy, "h", h);
}

// The operands of what the layer makes; for Meta tensors their shapes alone.
template <bool Compute>
BothResults quantized(const BothRequests& requests, const Source& source) {
  const auto& [row, column] = requests;
  if constexpr (Compute) return both_results(quantize_both(source, row, column));
  check(row.at.device, source.input().device());
  const at::TensorOptions options = source.input().options();
  const SymShape shape{source.sym_rows(), source.sym_columns()};
  return both_results({allocate(shape, row.spec, Axis::kRow, options, row.form),
                       allocate(shape, column.spec, Axis::kColumn, options, column.form)});
}

template <bool Compute>
BothResults rms_norm(const BothRequests& requests, const at::Tensor& x, const at::Tensor& weight, double epsilon) {
  check_norm(x, weight, epsilon);
  const RmsStatistics statistics = Compute ? rms_statistics(x, {}, epsilon) : RmsStatistics{x, {}};
  return quantized<Compute>(requests, Source::rms_norm(statistics, weight.contiguous()));
}

template <bool Compute>
BothResults swiglu(const BothRequests& requests, const at::Tensor& h) {
  check_gated(h);
  return quantized<Compute>(requests, Source::swiglu(h.contiguous()));
}

template <bool Compute>
BothResults swiglu_backward(const BothRequests& requests, const at::Tensor& dy, const at::Tensor& h) {
  check_gradient(dy, h);
  return quantized<Compute>(requests, Source::swiglu_backward(dy.contiguous(), h.contiguous()));
}

void define(torch::Library& library, std::string_view name, std::string_view inputs) {
  library.def(c10::str(name, "(", inputs, ", ", kBothArguments, ") -> ", kBothResults).c_str());
}

}  // namespace

void define_layer_operators(torch::Library& library) {
  define(library, "rms_norm_quantize_both", "Tensor x, Tensor weight, float epsilon");
  define(library, "swiglu_quantize_both", "Tensor h");
  define(library, "swiglu_backward_quantize_both", "Tensor dy, Tensor h");
}

template <bool Compute>
void implement_layer_operators(torch::Library& library) {
  library.impl("rms_norm_quantize_both", BothKernel<rms_norm<Compute>>::call);
  library.impl("swiglu_quantize_both", BothKernel<swiglu<Compute>>::call);
  library.impl("swiglu_backward_quantize_both", BothKernel<swiglu_backward<Compute>>::call);
}

template void implement_layer_operators<true>(torch::Library& library);
template void implement_layer_operators<false>(torch::Library& library);

}  // namespace ufp4::ops
