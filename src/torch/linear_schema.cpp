#include "torch/linear_schema.h"
#include "config/recipe_keys.h"

#include <torch/library.h>

#include <string>
#include <vector>

#include "torch/linear_op.h"
#include "torch/op_arguments.h"
#include "torch/pending_backward.h"
#include "ufp4/format.h"
#include "ufp4/operand.h"

namespace ufp4::ops {
namespace {

at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, std::string_view recipe,
                  std::optional<std::int64_t> layer, std::optional<std::int64_t> step, std::int64_t seed,
                  c10::SymInt token_offset, const std::optional<at::Tensor>& step_tensor,
                  const std::optional<at::Tensor>& layer_tensor, const std::optional<at::Tensor>& token_tensor,
                  c10::SymInt in_offset, c10::SymInt out_offset, bool stash, bool keep_weight,
                  const std::optional<c10::List<at::Tensor>>& prepared, std::string_view product) {
  const LinearPlace place{.seed = seed,
                          .layer = layer,
                          .step = step,
                          .token_offset = std::move(token_offset),
                          .in_offset = std::move(in_offset),
                          .out_offset = std::move(out_offset),
                          .step_tensor = step_tensor,
                          .layer_tensor = layer_tensor,
                          .token_tensor = token_tensor};
  const LinearOptions options{.stash = stash,
                              .keep_weight = keep_weight,
                              .prepared = prepared ? prepared->vec() : std::vector<at::Tensor>(),
                              .product = product};
  return linear_op(x, weight, recipe, place, options);
}

std::string linear_products(const at::Tensor& weight, std::string_view recipe, std::string_view product) {
  return choose_product_names(*shared_recipe(recipe), weight, product);
}

// "key = value", every key once.
std::vector<std::string> recipe_entries(std::string_view recipe) {
  std::vector<std::string> result;
  for (const auto& [key, value] : entries(*shared_recipe(recipe))) {
    result.emplace_back(key).append(" = ").append(value);
  }
  return result;
}

// Of a transform of that size: 1 or -1 for each element of a run.
std::vector<std::int64_t> signs_of_transform(std::int64_t size, std::int64_t seed) {
  const int n = to_size("size", size);
  const Signs signs = hadamard_signs(n, static_cast<std::uint64_t>(seed));
  std::vector<std::int64_t> result;
  for (std::size_t i = 0; i < static_cast<std::size_t>(n); ++i) {
    result.push_back((signs[i / 32] >> (i % 32) & 1U) != 0 ? -1 : 1);
  }
  return result;
}

// Three texts a format: its name, its block, and one line for people.
std::vector<std::string> format_table() {
  std::vector<std::string> result;
  for (const BlockFormat& format : formats()) {
    result.emplace_back(format.name);
    result.push_back(std::to_string(format.block));
    result.emplace_back(format.summary);
  }
  return result;
}

}  // namespace

void define_linear(torch::Library& library) {
  library.def(
      "linear(Tensor x, Tensor weight, str recipe, *, int? layer=None, int? step=None, int seed=0, "
      "SymInt token_offset=0, Tensor? step_tensor=None, Tensor? layer_tensor=None, Tensor? token_tensor=None, "
      "SymInt in_offset=0, SymInt out_offset=0, bool stash=True, bool keep_weight=True, Tensor[]? prepared=None, "
      "str product=\"auto\") -> Tensor",
      linear);
  library.def("linear_products(Tensor weight, str recipe, str product=\"auto\") -> str", linear_products);
  library.def("pending_backward(Tensor step_tensor) -> int", pending_backward);
  library.def("recipe_entries(str recipe) -> str[]", recipe_entries);
  library.def("hadamard_signs(int size, int seed) -> int[]", signs_of_transform);
  library.def("format_table() -> str[]", format_table);
}

}  // namespace ufp4::ops
