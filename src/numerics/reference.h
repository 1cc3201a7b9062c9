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

// Raises `amax` [outer_shape] to the largest magnitudes, after the transform, of the blocks without NaN or infinity in
// some rows of the stored matrix.
void raise_outer_amax(const ConstMatrix& in, const OperandSpec& spec, const Place& place, RowRange rows, float* amax);

}  // namespace ufp4::reference
