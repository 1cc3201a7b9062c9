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

BothResults quantized(const BothArguments& arguments, const Source& source) {
  const OperandRequest row{arguments.row, Form::kBf16, {}};
  const OperandRequest column{arguments.column, arguments.packed ? Form::kPacked : Form::kBf16, {}};
  auto [rows, columns] = ufp4::quantize_both(source, row, column, arguments.random);
  return both_results(rows.codes, columns);
}

// The results for a Meta tensor of the shape that the layer makes.
BothResults shapes(const BothArguments& arguments, const at::Tensor& made) {
  auto [row, column] = quantize_both(made, arguments.row, arguments.column, arguments.random, arguments.packed);
  return {row, column.codes, column.scales, column.outer_scales};
}

template <bool Compute>
BothResults rms_norm(const BothArguments& arguments, const at::Tensor& x, const at::Tensor& weight, double epsilon) {
  check_norm(x, weight, epsilon);
  return Compute ? quantized(arguments, Source::rms_norm(rms_statistics(x, {}, epsilon), weight.contiguous()))
                 : shapes(arguments, x);
}

template <bool Compute>
BothResults swiglu(const BothArguments& arguments, const at::Tensor& h) {
  check_gated(h);
  return Compute ? quantized(arguments, Source::swiglu(h.contiguous()))
                 : shapes(arguments, h.narrow_symint(1, 0, h.sym_size(1) / 2));
}

template <bool Compute>
BothResults swiglu_backward(const BothArguments& arguments, const at::Tensor& dy, const at::Tensor& h) {
  check_gradient(dy, h);
  return Compute ? quantized(arguments, Source::swiglu_backward(dy.contiguous(), h.contiguous()))
                 : shapes(arguments, h);
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
