// The operands of a linear's GEMMs: from what a linear reads to what its tensor cores take, or to what is kept.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "torch/quantized_tensor.h"
#include "torch/random_context.h"
#include "torch/source.h"
#include "torch/window.h"

namespace ufp4 {

// Where an operand stands, with numbers that may lie in the memory of its device.
struct TensorPlace {
  Place place;
  DeviceNumbers device{};  // first_token is that of the stored rows
};

// One operand to be made.
struct OperandRequest {
  OperandSpec spec;
  TensorPlace at;
  Form form = Form::kBf16;
  Window window{};  // for formats with one; all null: exact
};

// Throws InputError for device numbers that are no int32 on that device.
void check(const DeviceNumbers& numbers, const at::Device& device);

// The operand of what `source` makes, along request.at.place.axis.
QuantizedTensor quantize(const Source& source, const OperandRequest& request);

// Both orientations of it, `row` along the rows and `column` along the columns; on a GPU by one kernel that does not
// write what the source makes, where the kernels know the formats.
struct BothOperands {
  QuantizedTensor row;
  QuantizedTensor column;
};
BothOperands quantize_both(const Source& source, const OperandRequest& row, const OperandRequest& column);

// A packed operand in another form; of the spec it reads format, block and outer.
QuantizedTensor unpack(const QuantizedTensor& packed, const OperandSpec& spec, Form form);

}  // namespace ufp4
