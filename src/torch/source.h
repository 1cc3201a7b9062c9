// What is quantized for a linear: a matrix in memory, or one that a fused kernel makes and quantizes without writing
// it: the result of the layer before the linear, or its master weight rounded to BF16. Both give the same bits.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "torch/layer_passes.h"

namespace ufp4 {

class Source {
 public:
  enum class Kind : std::uint8_t { kMatrix, kRmsNorm, kSwiglu, kSwigluBackward, kRounded };

  // BF16, all of them [tokens, features].
  static Source matrix(const at::Tensor& x) { return {Kind::kMatrix, x, {}, {}, {}}; }
  static Source rms_norm(const RmsStatistics& of, const at::Tensor& weight) {
    return {Kind::kRmsNorm, of.x, of.rstd, weight, {}};
  }
  static Source swiglu(const at::Tensor& h) { return {Kind::kSwiglu, h, {}, {}, {}}; }
  static Source swiglu_backward(const at::Tensor& dy, const at::Tensor& h) {
    return {Kind::kSwigluBackward, h, {}, {}, dy};
  }
  // An FP32 matrix rounded to BF16, if `rounds`: there are kernels that do it, and the shape is one that they take.
  static bool rounds(const at::Tensor& matrix);
  static Source rounded(const at::Tensor& matrix) { return {Kind::kRounded, matrix, {}, {}, {}}; }

  // The matrix, in memory.
  at::Tensor compute() const;

  Kind kind() const { return kind_; }
  const at::Tensor& input() const { return input_; }  // the matrix, x, or h
  const at::Tensor& rstd() const { return rstd_; }
  const at::Tensor& weight() const { return weight_; }
  const at::Tensor& dy() const { return dy_; }
  std::int64_t rows() const { return input_.size(0); }
  std::int64_t columns() const { return kind_ == Kind::kSwiglu ? input_.size(1) / 2 : input_.size(1); }

 private:
  Source(Kind kind, at::Tensor input, at::Tensor rstd, at::Tensor weight, at::Tensor dy)
      : kind_(kind), input_(std::move(input)), rstd_(std::move(rstd)), weight_(std::move(weight)), dy_(std::move(dy)) {}

  Kind kind_;
  at::Tensor input_, rstd_, weight_, dy_;
};

}  // namespace ufp4
