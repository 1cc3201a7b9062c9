#include "numerics/arguments.h"

#include <algorithm>
#include <string>

#include "ufp4/error.h"
#include "ufp4/format.h"

namespace ufp4 {
namespace {

std::string shape_text(std::int64_t rows, std::int64_t columns) {
  return "[" + std::to_string(rows) + ", " + std::to_string(columns) + "]";
}

}  // namespace

void check_matrix(const ConstMatrix& in) {
  if (in.data == nullptr) throw InputError("quantize: matrix " + shape_text(in.rows, in.columns) + " has no data");
  if (in.row_stride < in.columns) {
    throw InputError("quantize: row stride " + std::to_string(in.row_stride) + " is less than the " +
                     std::to_string(in.columns) + " columns");
  }
}

void check_output(const QuantizeTask& task) {
  const Quantized& out = task.out;
  if (out.dequantized != nullptr && out.dequantized_dtype == DType::kF16) {
    throw InputError("quantize: dequantized output is F32 or BF16, not F16");
  }
  const BlockFormat& format = *task.spec.format;
  if (out.e4m3 != nullptr && format.exact != ExactValue::kE4m3) {
    throw InputError("quantize: the values of format '" + std::string(format.name) +
                     "' are no E4M3 numbers; those of int4_p2 are");
  }
  if (out.int8 != nullptr && format.exact != ExactValue::kInt8) {
    throw InputError("quantize: the values of format '" + std::string(format.name) +
                     "' are no INT8 numbers; those of int4_i4 are");
  }
  if ((out.amax != nullptr || out.clipped != nullptr) && !format.has_window()) {
    throw InputError("quantize: format '" + std::string(format.name) + "' has no window of scales; int4_p2 has");
  }
}

void check_dequantize(const ConstQuantized& in, const void* out, DType out_dtype) {
  if (in.format == nullptr) throw InputError("dequantize: no format given");
  if (out_dtype == DType::kF16) throw InputError("dequantize: output is F32 or BF16, not F16");
  const int block = in.block == 0 ? in.format->block : in.block;
  if (std::find(kBlockSizes.begin(), kBlockSizes.end(), block) == kBlockSizes.end()) {
    throw InputError("dequantize: block size " + std::to_string(block) + " is not one of 16, 32, 64, 128");
  }
  if (in.rows < 0 || in.columns < 0 || in.columns % block != 0) {
    throw InputError("dequantize: " + shape_text(in.rows, in.columns) + " is no whole number of blocks of " +
                     std::to_string(block));
  }
  if (in.rows == 0 || in.columns == 0) return;
  const BlockFormat& format = *in.format;
  const bool known = format.has_outer_scale() ? format.outer_scales.has(in.outer) : in.outer == OuterScale::kTensor;
  if (!known && in.outer_scales != nullptr) {
    throw InputError("dequantize: format '" + std::string(format.name) + "' has no second-level scale for each " +
                     std::string(name_of(in.outer)));
  }
  const bool packed = in.packed_scales != nullptr;
  if (in.codes == nullptr || (in.scales == nullptr && !packed) || out == nullptr) {
    throw InputError("dequantize: an array is missing");
  }
  if (packed && in.outer != OuterScale::kTensor && in.outer_scales == nullptr) {
    throw InputError("dequantize: the outer scales are missing");
  }
  if (!packed && in.format->selector_block != 0 && in.selectors == nullptr) {
    throw InputError("dequantize: format '" + std::string(in.format->name) + "' needs its selectors");
  }
}

}  // namespace ufp4
