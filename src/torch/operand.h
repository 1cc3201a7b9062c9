// The operands of a linear's GEMMs: from what a linear reads to what its tensor cores take, or to what is kept.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "torch/gemm.h"
#include "torch/ops.h"
#include "torch/source.h"
#include "torch/window.h"

namespace ufp4 {

// How a quantized operand leaves.
enum class Form : std::uint8_t {
  kBf16,    // dequantized, for a BF16 GEMM
  kE4m3,    // int4_p2: code * scale as an E4M3 number, exactly, and the second-level scale beside it, for an FP8 GEMM
  kPacked,  // codes and scales
};

struct OperandRequest {
  ops::OperandArgs args;
  Form form = Form::kBf16;
  Window window;  // for formats with one; all null: exact
};

// `codes` are values for Form::kBf16 and kE4m3; only what the form has is defined.
using MadeOperand = ops::PackedOperand;

// As a GEMM takes it; not for Form::kPacked.
GemmOperand gemm_operand(MadeOperand made);

// One orientation of what `source` makes, [rows, columns] as the operand has them.
MadeOperand quantize(const Source& source, const OperandRequest& request, Axis axis, const ops::RandomArgs& random);

// Both orientations; on a GPU by one kernel that does not write what the source makes, where the kernels know the
// formats. Offsets are those of the source.
struct MadeOperands {
  MadeOperand row;
  MadeOperand column;
};
MadeOperands quantize_both(const Source& source, const OperandRequest& row, const OperandRequest& column,
                           const ops::RandomArgs& random);

// A packed operand in the form that its GEMM takes.
GemmOperand unpack(const MadeOperand& packed, const ops::OperandArgs& args, Form form);

}  // namespace ufp4
