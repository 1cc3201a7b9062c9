#include "torch/rotated.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/stack.h>

#include "numerics/hadamard.h"

namespace ufp4 {
namespace {

// 1 or -1 for each element of a run.
at::Tensor signs_tensor(const Signs& signs, int size, const at::Device& device) {
  const at::Tensor values = at::empty({size}, at::kFloat);
  float* to = values.mutable_data_ptr<float>();
  for (int i = 0; i < size; ++i) {
    const bool negated = ((signs[static_cast<std::size_t>(i / 32)] >> (i % 32)) & 1U) != 0;
    to[i] = negated ? -1.0F : 1.0F;
  }
  return values.to(device);
}

}  // namespace

at::Tensor rotated(const at::Tensor& operand, const Hadamard& hadamard, std::uint64_t seed) {
  if (hadamard.size == 0) return operand;
  const std::int64_t size = hadamard.size;
  const std::int64_t rows = operand.size(0);
  const std::int64_t columns = operand.size(1);
  const std::int64_t runs = (columns + size - 1) / size;
  const Signs signs = hadamard.signs.value_or(hadamard_signs(hadamard.size, seed));
  at::Tensor values = at::constant_pad_nd(operand.to(at::kFloat), {0, runs * size - columns});
  values = values.reshape({rows * runs, size}) * signs_tensor(signs, hadamard.size, operand.device());
  for (std::int64_t stride = 1; stride < size; stride *= 2) {
    const at::Tensor pairs = values.view({rows * runs, size / (2 * stride), 2, stride});
    const at::Tensor a = pairs.select(2, 0);
    const at::Tensor b = pairs.select(2, 1);
    values = at::stack({a + b, a - b}, 2).view({rows * runs, size});
  }
  values = values * hadamard_scale(hadamard.size);
  return values.view({rows, runs * size}).to(at::kBFloat16);
}

}  // namespace ufp4
