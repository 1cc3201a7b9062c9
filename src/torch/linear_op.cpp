#include "torch/linear_op.h"

#include <limits>
#include <string>

#include "torch/op_arguments.h"
#include "torch/quantized_linear.h"
#include "ufp4/error.h"

namespace ufp4::ops {
namespace {

std::string_view trim(std::string_view text) {
  const auto first = text.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
}

Recipe parse_recipe(std::string_view text) {
  Recipe recipe;
  recipe.name = "custom";
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(';'), text.size());
    const std::string_view entry = trim(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    if (entry.empty()) continue;
    const std::size_t equals = entry.find('=');
    if (equals == std::string_view::npos) {
      throw InputError("recipe entry '" + std::string(entry) + "' is not of the form key = value");
    }
    set(recipe, trim(entry.substr(0, equals)), trim(entry.substr(equals + 1)));
  }
  validate(recipe);
  return recipe;
}

}  // namespace

at::Tensor linear_op(const at::Tensor& x, const at::Tensor& weight, std::string_view recipe, std::int64_t layer,
                     std::int64_t seed, std::int64_t step, std::int64_t token_offset, bool stash) {
  const RandomContext context{.seed = static_cast<std::uint64_t>(seed),
                              .step = to_u32("step", step),
                              .token_offset = to_u32("token_offset", token_offset)};
  const std::uint32_t number = to_u32("layer", layer, std::numeric_limits<std::uint32_t>::max() / kStreamsPerLayer - 1);
  const LinearCall call{.recipe = std::make_shared<const Recipe>(parse_recipe(recipe)),
                        .products = nullptr,
                        .number = number,
                        .context = context,
                        .stash = stash ? Stash::kPacked : Stash::kNone};
  return quantized_linear(x, weight, {weight.detach(), {}}, call);
}

}  // namespace ufp4::ops
