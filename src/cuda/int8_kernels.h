// The launches of the kernels of the INT8 product.
#pragma once

#include "cuda/int8_product.h"

namespace ufp4::cuda {

// A product, in the types that kernels count with.
struct Int8Task {
  const float* a_scales;
  const float* b_scales;
  std::int64_t a_scale_row, a_scale_segment, b_scale_row, b_scale_segment;  // strides
  void* out;
  std::int64_t out_row_stride;
  const std::int32_t* offsets;
  int m, n, k;
  int piece;
  int segment;  // 0: all pieces have the same scales
  int groups;
  Int8Groups grouped;
  Int8Result result;
  Int8Share share;
  int unit_rows, unit_columns, band;
  bool in_turn;
  int run;  // neighbouring columns of a thread: 2, or as many as it stores as a vector (8 of BF16, 4 of FP32)
};

void launch_int8_wgmma(const Int8Product& product, const Int8Task& task, const Int8Launch& how, Stream stream);
void launch_int8_mma(const Int8Product& product, const Int8Task& task, Stream stream);

}  // namespace ufp4::cuda
