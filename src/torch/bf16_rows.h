// A BF16 tensor as the passes over it see it: dense rows along its last axis, values as bits.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace ufp4 {

inline std::int64_t rows_of(const at::Tensor& t) { return t.size(-1) == 0 ? 0 : t.numel() / t.size(-1); }

// Null for a tensor that is not defined.
inline const std::uint16_t* bf16_input(const at::Tensor& t) {
  return t.defined() ? static_cast<const std::uint16_t*>(t.const_data_ptr()) : nullptr;
}
inline std::uint16_t* bf16_output(const at::Tensor& t) {
  return t.defined() ? static_cast<std::uint16_t*>(t.mutable_data_ptr()) : nullptr;
}

}  // namespace ufp4
