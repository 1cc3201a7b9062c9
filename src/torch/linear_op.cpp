#include "torch/linear_op.h"

#include <limits>

#include "config/recipes.h"
#include "torch/op_arguments.h"
#include "torch/quantized_linear.h"

namespace ufp4::ops {

at::Tensor linear_op(const at::Tensor& x, const at::Tensor& weight, std::string_view recipe, std::int64_t layer,
                     std::int64_t seed, std::int64_t step, std::int64_t token_offset, bool stash) {
  const RandomContext context{.seed = static_cast<std::uint64_t>(seed),
                              .step = to_u32("step", step),
                              .token_offset = to_u32("token_offset", token_offset)};
  const std::uint32_t number = to_u32("layer", layer, std::numeric_limits<std::uint32_t>::max() / kStreamsPerLayer - 1);
  const LinearCall call{.recipe = std::make_shared<const Recipe>(find_or_parse_recipe(recipe)),
                        .products = nullptr,
                        .number = number,
                        .context = context,
                        .stash = stash ? Stash::kPacked : Stash::kNone};
  return quantized_linear(x, weight, {weight.detach(), {}}, call);
}

}  // namespace ufp4::ops
