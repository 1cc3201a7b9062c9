// The second-level scales of an operand, as the kernels read them.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/job.h"

namespace ufp4::cpu {

class OuterScales {
 public:
  // The task has the magnitudes that they follow from, unless the job is to measure them.
  OuterScales(const Job& job, const QuantizeTask& task, std::size_t lanes);

  // Whether they are multiplied into the block scales.
  bool in_scales() const { return in_scales_; }
  // Where the values end that share one with those of the column, in the same row.
  std::int64_t end_of(std::int64_t column) const { return (column / shape_.columns_each + 1) * shape_.columns_each; }

  std::size_t index(std::int64_t row, std::int64_t column) const {
    return static_cast<std::size_t>(shape_.index(row, column));
  }
  float scale(std::int64_t row, std::int64_t column) const { return scales_[index(row, column)]; }

  // Gives a span its terms. Its first lane begins at (row, column) of the operand, and each further lane row_step and
  // column_step after the one before.
  void fill(Span& span, std::int64_t row, std::int64_t row_step, std::int64_t column, std::int64_t column_step,
            std::int64_t groups);

  // The results that the operand has once.
  void write(const Quantized& out) const;

 private:
  QuantizedShape operand_;
  OuterShape shape_;
  std::size_t lanes_;
  bool one_;  // for the tensor
  bool in_scales_;
  std::vector<float> scales_;
  std::vector<OuterTerms> terms_;
  std::vector<float> buffer_;  // of a span
};

}  // namespace ufp4::cpu
