// A quantized operand [rows, columns] as tensors, in one of its forms.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/SymInt.h>

#include <cstdint>
#include <string_view>

#include "ufp4/quantize.h"

namespace ufp4 {

enum class Form : std::uint8_t {
  kBf16,    // dequantized, for a product of BF16 values
  kFp32,    // dequantized
  kE4m3,    // level * block scale as an E4M3 number, exactly, and the second-level scale beside it (ExactValue::kE4m3)
  kInt8,    // the same as an integer (ExactValue::kInt8)
  kPacked,  // codes and scales
};

// "bf16", "fp32", "e4m3", "int8", "packed".
std::string_view name_of(Form form);

// Of the values of a form.
at::ScalarType value_type(Form form);

// Whether second-level scales stand beside what a form holds.
constexpr bool has_outer_scales(Form form) {
  return form == Form::kE4m3 || form == Form::kInt8 || form == Form::kPacked;
}

struct QuantizedTensor {
  Form form = Form::kBf16;
  at::Tensor values;  // [rows, columns]: BFloat16, Float, Float8_e4m3fn or Char; undefined for kPacked
  at::Tensor codes;   // kPacked: U8 [rows, columns / 2]
  // kPacked: F32 [rows, columns / block], or U8 [rows, columns / block * bytes] where the format stores them in bytes.
  at::Tensor scales;
  // kE4m3, kInt8 and kPacked: F32, two-dimensional: those of the second level; empty where the format has none.
  at::Tensor outer_scales;

  // A matrix that is not quantized, [rows, columns] BF16.
  static QuantizedTensor bf16(at::Tensor matrix);

  // Whether there is an operand at all.
  bool given() const { return form == Form::kPacked ? codes.defined() : values.defined(); }
};

struct SymShape {
  c10::SymInt rows;
  c10::SymInt columns;
};

// How a format stores the scale of a block: in so many elements of that type.
at::ScalarType scale_type(const BlockFormat& format);
std::int64_t scale_elements(const BlockFormat& format);

// The second-level scales of an operand [rows, columns]; nothing where the format has none.
SymShape outer_scales_shape(const SymShape& operand, const BlockFormat& format, OuterScale outer);

// The operand of a stored matrix [rows, columns], allocated where `options` say.
QuantizedTensor allocate(const SymShape& matrix, const OperandSpec& spec, Axis axis, const at::TensorOptions& options,
                         Form form);

// Where a kernel writes what was allocated so.
Quantized destination(const QuantizedTensor& operand);

// What dequantize reads of a packed operand, which must outlive the result.
ConstQuantized source_of(const QuantizedTensor& packed, const OperandSpec& spec);

}  // namespace ufp4
