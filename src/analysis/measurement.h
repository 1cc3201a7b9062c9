// The figures of a matrix under one quantization, gathered part by part: NMSE, alpha, use of the codes, mean error by
// level (docs/numerics.md, "What is measured").
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "analysis/statistics.h"
#include "ufp4/quantize.h"

namespace ufp4::analysis {

class FormatMeasurement {
 public:
  // Rows are quantized along their length. A format with a second-level scale for the tensor takes spec.tensor_amax; if
  // that is negative every part is scaled by its own.
  explicit FormatMeasurement(const QuantizeSpec& spec);

  // Adds rows [rows, columns], dense FP32 and finite. Values are compared after the transform; the padding of the last
  // block of a row takes part in its block but is not counted without a transform (it holds no value of the matrix).
  void add(std::span<const float> values, std::int64_t rows, std::int64_t columns);

  // Adds what another one with the same spec has gathered.
  FormatMeasurement& operator+=(const FormatMeasurement& other);

  const QuantizeSpec& spec() const { return spec_; }
  std::int64_t count() const { return sums_.count; }

  // level_share and level_mean_error go by the code's magnitude, the code -8 as an eighth level; they are empty for
  // formats whose blocks choose between grids.
  Figures figures() const;

 private:
  QuantizeSpec spec_;
  Sums sums_;
  std::array<double, 16> code_count_{};
  std::array<double, 16> code_error_{};  // sum of (level - |value| / scale), by code
  double clamped_ = 0;
};

}  // namespace ufp4::analysis
