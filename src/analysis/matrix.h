// The figures of one matrix under a list of schemes, on several threads and in memory that the matrix's size does not
// change.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "analysis/statistics.h"
#include "ufp4/format.h"
#include "ufp4/quantize.h"

namespace ufp4::analysis {

// Every format without a transform and, unless `hadamard` is 0, with one of that size.
std::vector<OperandSpec> schemes_of(std::span<const BlockFormat* const> formats, int hadamard);

struct SchemeFigures {
  OperandSpec scheme;
  Figures figures;
};

struct MatrixReport {
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::int64_t nonfinite = 0;  // NaN and infinite values: measured as zeros, which add nothing
  double rms = 0;
  double amax = 0;
  std::vector<SchemeFigures> schemes;

  // amax / rms; 0 for a matrix of zeros.
  double crest() const { return rms > 0 ? amax / rms : 0; }
  // The figures of the same scheme without a transform; null if they were not asked for.
  const Figures* without_transform(const OperandSpec& scheme) const;
};

// How many dB the transform gains: 10 log10 of the ratio of the NMSE without to that with it; NaN if one is zero.
double gain_db(const Figures& without, const Figures& with);

// A rectangle of an operand.
struct Rectangle {
  std::int64_t row = 0, column = 0, rows = 0, columns = 0;
};

// An operand [rows, columns] with blocks along its columns, wherever it lies.
struct MatrixSource {
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  // Writes a rectangle as dense FP32. Called from several threads.
  std::function<void(const Rectangle&, std::span<float>)> load;
};

// The operand that a matrix in memory is: transposed for Axis::kColumn. The memory must outlive the source.
MatrixSource source_of(const ConstMatrix& matrix, Axis axis);

// Elements in memory, aligned or not, as FP32.
void convert_to_float(const std::byte* from, DType dtype, std::span<float> out);

struct MatrixAnalysis {
  std::vector<OperandSpec> schemes;  // a delayed amax is measured as an exact one
  Place place;                       // of the operand: its signs and random bits; blocks run along the source's columns
  int threads = 1;
  std::function<void(std::int64_t values)> progress;  // called with what was done since the last call; may be empty
};

// How often analyze_matrix loads every value: twice where a scheme has a second-level scale for the tensor or a row.
int passes(std::span<const OperandSpec> schemes);

MatrixReport analyze_matrix(const MatrixSource& source, const MatrixAnalysis& analysis);

}  // namespace ufp4::analysis
