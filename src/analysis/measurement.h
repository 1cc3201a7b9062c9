// The figures of a matrix under one quantization, gathered part by part: NMSE, alpha, use of the codes, mean error by
// level (docs/numerics.md, "What is measured").
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "analysis/code_sums.h"
#include "analysis/statistics.h"
#include "ufp4/quantize.h"

namespace ufp4::analysis {

// A rectangle of an operand: dense FP32 values, all finite, and its place in the whole (for random bits).
struct Part {
  std::span<const float> values;  // [rows, columns]
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::int64_t row = 0;
  std::int64_t column = 0;
};

// y = x S H_n / sqrt(n) of every row, padded with zeros to whole runs, into `out`; returns the padded number of
// columns. Without a transform it copies.
std::int64_t transform_rows(const Part& part, const Hadamard& hadamard, std::vector<float>& out);

// Memory that measurements of one thread take turns with.
struct MeasurementBuffers {
  std::vector<float> image;
  std::vector<float> scales;
  std::vector<float> outer_scales;
  std::vector<std::uint8_t> codes;
  std::vector<double> inverse_scales;
};

class FormatMeasurement {
 public:
  // Rows are quantized along their length, as they are: spec.hadamard is left out, so that all formats after one
  // transform share it. `outer_amax` has what second-level scales for the tensor (one value) or for rows (one a row)
  // follow from; where it is empty every part is scaled by its own. It must outlive the measurement.
  FormatMeasurement(const OperandSpec& spec, const Place& place, std::span<const float> outer_amax);

  // The padding of the last block of a row takes part in its block but is not counted.
  void add(const Part& part, MeasurementBuffers& buffers);

  // Adds what another one with the same spec has gathered.
  FormatMeasurement& operator+=(const FormatMeasurement& other);

  const OperandSpec& spec() const { return spec_; }

  // level_share and level_mean_error go by the code's magnitude, the code -8 as an eighth level; they are empty for
  // formats whose blocks choose between grids.
  Figures figures() const;

 private:
  void add_row(const float* values, std::int64_t columns, std::size_t at, MeasurementBuffers& buffers);

  OperandSpec spec_;
  Place place_;
  std::span<const float> outer_amax_;
  CodeSums sums_;
};

}  // namespace ufp4::analysis
