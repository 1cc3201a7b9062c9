#include "cpu/outer_scales.h"

#include <algorithm>

#include "numerics/outer_amax.h"
#include "numerics/scale_rules.h"

namespace ufp4::cpu {

OuterScales::OuterScales(const Job& job, const QuantizeTask& task, std::size_t lanes)
    : operand_(job.shape),
      shape_(outer_shape(job.shape, task.spec.outer_each())),
      lanes_(lanes),
      one_(task.spec.outer_each() == OuterScale::kTensor),
      in_scales_(!job.format->outer_stays_apart(task.spec.outer_each())) {
  const OuterAmax outer(task, job.shape);
  for (const float amax : outer.all()) {
    scales_.push_back(reference::outer_scale(*job.format, amax));
    terms_.push_back(outer_terms(job, amax));
  }
  if (!one_) return;
  for (const float term : terms_[0]) buffer_.insert(buffer_.end(), lanes, term);  // the same for every group
}

void OuterScales::fill(Span& span, std::int64_t row, std::int64_t row_step, std::int64_t column,
                       std::int64_t column_step, std::int64_t groups) {
  if (!one_) {
    span.outer_stride = kOuterTerms * lanes_;
    buffer_.resize(static_cast<std::size_t>(groups) * span.outer_stride);
    for (std::size_t unit = 0; unit < static_cast<std::size_t>(groups) * lanes_; ++unit) {
      // Lanes beyond the operand take the terms of its end.
      const OuterTerms& terms = terms_[index(std::min(row, operand_.rows - 1), std::min(column, operand_.columns - 1))];
      float* to = buffer_.data() + unit / lanes_ * span.outer_stride + unit % lanes_;
      for (std::size_t term = 0; term < kOuterTerms; ++term) to[term * lanes_] = terms[term];
      row += row_step;
      column += column_step;
    }
  }
  span.outer = buffer_.data();
}

void OuterScales::write(const Quantized& out) const {
  if (out.outer_scales != nullptr) std::copy(scales_.begin(), scales_.end(), out.outer_scales);
}

}  // namespace ufp4::cpu
