// The checks of arguments that every way into a backend shares. They throw InputError.
#pragma once

#include "ufp4/quantize.h"

namespace ufp4 {

// A matrix with elements: its memory and its stride.
void check_matrix(const ConstMatrix& in);

// What dequantize reads and where it writes.
void check_dequantize(const ConstQuantized& in, const void* out, DType out_dtype);

// That the format has the results for which there is a place, and that they are of a type that there is.
void check_output(const QuantizeTask& task);

}  // namespace ufp4
