// The scalar reference of every operation, line by line after docs/numerics.md. It is the definition: simple, slow and
// without any cleverness. Arguments are as Backend checked them.
#pragma once

#include "numerics/scale_rules.h"
#include "ufp4/quantize.h"

namespace ufp4::reference {

void quantize(const ConstMatrix& in, const QuantizeTask& task);

// The part of it that some rows of the stored matrix stand for.
void quantize(const ConstMatrix& in, const QuantizeTask& task, RowRange rows);

void dequantize(const ConstQuantized& in, void* out, DType out_dtype);

// The largest magnitude of the operand after the transform, over the blocks without NaN or infinity; 0 if there is
// none.
float tensor_amax(const ConstMatrix& in, const QuantizeSpec& spec);

}  // namespace ufp4::reference
