#include "torch/linear_arguments.h"

#include <algorithm>
#include <limits>
#include <string>
#include <utility>

#include "torch/linear_op.h"
#include "torch/op_arguments.h"
#include "torch/products.h"
#include "ufp4/error.h"

namespace ufp4::ops {
namespace {

enum PlaceItem : std::uint8_t { kSeed, kLayer, kStep, kToken, kIn, kOut };

std::shared_ptr<const ChosenProducts> to_products(std::string_view names) {
  ChosenProducts chosen;
  std::size_t count = 0;
  for (std::string_view rest = names; count < chosen.gemm.size(); ++count) {
    const std::size_t end = std::min(rest.find(','), rest.size());
    chosen.gemm[count] = &find_product(rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return std::make_shared<const ChosenProducts>(std::move(chosen));
}

// The name of an operand of the recipe that draws, or nothing.
std::string drawing_operand(const Recipe& recipe, bool gradients) {
  for (const Gemm gemm : {Gemm::kFprop, Gemm::kDgrad, Gemm::kWgrad}) {
    if (gemm != Gemm::kFprop && !gradients) break;
    for (std::size_t i = 0; i < 2; ++i) {
      const auto& operand = recipe[gemm].operand[i];
      if (operand.quantized() && operand.rounding == Rounding::kStochastic) {
        return std::string(recipe[gemm].name) + "." + std::string(recipe[gemm].operands[i]);
      }
    }
  }
  return {};
}

}  // namespace

std::array<c10::SymInt, 6> place_list(const LinearPlace& place) {
  return {place.seed,         place.layer.value_or(0), place.step.value_or(0),
          place.token_offset, place.in_offset,         place.out_offset};
}

LinearCall shape_call_of(const CallArguments& arguments, Stash stash) {
  LinearCall call;
  call.recipe = shared_recipe(arguments.recipe);
  call.products = to_products(arguments.products);
  call.stash = stash;
  return call;
}

LinearCall call_of(const CallArguments& arguments, Stash stash) {
  if (arguments.place.size() != 6) {
    throw InputError("place has " + std::to_string(arguments.place.size()) +
                     " numbers, expected 6: seed, layer, step, token offset, in offset, out offset");
  }
  const auto number = [&](PlaceItem item) { return arguments.place[item].expect_int(); };
  LinearCall call = shape_call_of(arguments, stash);
  constexpr std::int64_t kLastLayer = std::numeric_limits<std::uint32_t>::max() / kStreamsPerLayer - 1;
  call.number = to_u32("layer", number(kLayer), kLastLayer);
  call.features = {to_u32("in_offset", number(kIn)), to_u32("out_offset", number(kOut))};
  call.context.seed = static_cast<std::uint64_t>(number(kSeed));
  call.context.step = to_u32("step", number(kStep));
  call.context.token_offset = to_u32("token_offset", number(kToken));
  call.context.device = {arguments.step_tensor.value_or(at::Tensor()), arguments.layer_tensor.value_or(at::Tensor()),
                         arguments.token_tensor.value_or(at::Tensor())};
  return call;
}

void check_placed(const Recipe& recipe, const LinearPlace& place, bool gradients) {
  const bool step = place.step || place.step_tensor;
  const bool layer = place.layer || place.layer_tensor;
  if (step && layer) return;
  const std::string operand = drawing_operand(recipe, gradients);
  if (operand.empty()) return;
  const std::string missing = step ? "layer" : "step";
  throw InputError("linear: the recipe rounds " + operand + " stochastically, and no " + missing + " was given: pass " +
                   missing + " or " + missing + "_tensor, or the same random bits would be drawn again and again");
}

}  // namespace ufp4::ops
