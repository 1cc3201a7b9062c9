// What is quantized for a linear: a matrix in memory, or one that a fused kernel makes and quantizes without writing
// it: the result of a layer, or the master weight rounded to BF16. Both give the same bits.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "torch/layer_passes.h"

namespace ufp4 {

class Source {
 public:
  enum class Kind : std::uint8_t { kMatrix, kRmsNorm, kSwiglu, kSwigluBackward, kRotaryBackward, kRounded };

  // BF16, all of them [tokens, features].
  static Source matrix(const at::Tensor& x) { return {Kind::kMatrix, x, {}, {}, {}}; }
  static Source rms_norm(const RmsStatistics& of, const at::Tensor& weight) {
    return {Kind::kRmsNorm, of.x, of.rstd, weight, {}};
  }
  static Source swiglu(const at::Tensor& h) { return {Kind::kSwiglu, h, {}, {}, {}}; }
  static Source swiglu_backward(const at::Tensor& dy, const at::Tensor& h) {
    return {Kind::kSwigluBackward, h, {}, {}, dy};
  }
  // Of heads before they were turned by their token's angle, from that of the turned ones (layer_passes.h): [batch *
  // tokens, all heads * size].
  static Source rotary_backward(std::vector<RotaryHeads> heads, const at::Tensor& table) {
    Source source{Kind::kRotaryBackward, heads.front().heads, {}, table, {}};
    source.heads_ = std::move(heads);
    return source;
  }
  // An FP32 matrix rounded to BF16.
  static Source rounded(const at::Tensor& matrix) { return {Kind::kRounded, matrix, {}, {}, {}}; }

  // The matrix, in memory.
  at::Tensor compute() const;

  Kind kind() const { return kind_; }
  const at::Tensor& input() const { return input_; }  // the matrix, x, h, or the first of heads()
  const at::Tensor& rstd() const { return rstd_; }
  const at::Tensor& weight() const { return weight_; }  // of the norm; the rotary table
  const at::Tensor& dy() const { return dy_; }
  const std::vector<RotaryHeads>& heads() const { return heads_; }
  std::int64_t rows() const { return sym_rows().expect_int(); }
  std::int64_t columns() const { return sym_columns().expect_int(); }
  // The same for tensors whose sizes are symbols.
  c10::SymInt sym_rows() const;
  c10::SymInt sym_columns() const;

 private:
  Source(Kind kind, at::Tensor input, at::Tensor rstd, at::Tensor weight, at::Tensor dy)
      : kind_(kind), input_(std::move(input)), rstd_(std::move(rstd)), weight_(std::move(weight)), dy_(std::move(dy)) {}

  Kind kind_;
  at::Tensor input_, rstd_, weight_, dy_;
  std::vector<RotaryHeads> heads_;
};

}  // namespace ufp4
