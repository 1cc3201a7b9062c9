#include "train/checkpoint_analysis.h"

#include <ATen/Parallel.h>

#include <nlohmann/json.hpp>

#include "train/loaded_checkpoint.h"
#include "train/operand_analysis.h"
#include "train/torch_error.h"

namespace ufp4 {

using Json = nlohmann::ordered_json;

void analyze_operands(const BatchSettings& settings, std::span<const OperandSpec> schemes,
                      const std::function<void(const OperandReport&)>& report) try {
  at::set_num_threads(settings.threads);
  const LoadedCheckpoint checkpoint(settings, {});
  if (settings.log) settings.log("bf16 pass");
  Transformer model = checkpoint.model(Recipe{});
  OperandAnalysis operands(Recipe{}, model.linears(), {{schemes.begin(), schemes.end()}, 0, settings.threads}, report);
  const auto seed = static_cast<std::uint64_t>(checkpoint.config().train.seed);
  model.loss(checkpoint.tokens(), operands.watch({.seed = seed})).backward();
} catch (const c10::Error& error) {
  throw_plain(error, fewer_sequences(settings));
}

Recipe recipe_of_format(const BlockFormat& format, int hadamard) {
  Recipe recipe;
  recipe.name = std::string(format.name) + (hadamard == 0 ? "" : "+rht" + std::to_string(hadamard));
  for (GemmRecipe& gemm : recipe.gemm) {
    gemm.operand.fill({.format = &format, .hadamard = {.size = hadamard}});
  }
  validate(recipe);
  return recipe;
}

namespace {

Json agreement_json(const Agreement& agreement) {
  return {{"alpha", agreement.alpha}, {"cosine", agreement.cosine}, {"nmse", agreement.nmse}};
}

}  // namespace

Json to_json(const ChainReport& report) {
  Json recipes = Json::array();
  for (const ChainRecipe& recipe : report.recipes) {
    Json linears = Json::array();
    for (const ChainLinear& linear : recipe.linears) {
      Json json{{"linear", linear.linear}};
      for (const Gemm gemm : {Gemm::kFprop, Gemm::kDgrad, Gemm::kWgrad}) {
        const ChainGemm& g = linear.gemm[static_cast<std::size_t>(gemm)];
        json[std::string(Recipe{}[gemm].name)] = {{"alpha_operands", g.alpha},
                                                  {"eta", g.eta()},
                                                  {"alone", agreement_json(g.alone)},
                                                  {"coherence", g.coherence},
                                                  {"in_chain", agreement_json(g.in_chain)},
                                                  {"eta_product", gemm == Gemm::kWgrad ? Json() : Json(g.eta_product)}};
      }
      linears.push_back(std::move(json));
    }
    Json stream = Json::array();
    for (const ChainStream& point : recipe.stream) {
      stream.push_back({{"linear", point.linear},
                        {"forward", agreement_json(point.forward)},
                        {"gradient", agreement_json(point.gradient)}});
    }
    Json hadamard;
    for (std::size_t g = 0; g < recipe.hadamard.size(); ++g) {
      hadamard[std::string(Recipe{}.gemm[g].name)] = recipe.hadamard[g];
    }
    recipes.push_back({{"name", recipe.name},
                       {"hadamard", hadamard},
                       {"loss", recipe.loss},
                       {"linears", linears},
                       {"stream", stream}});
  }
  return {{"step", report.step}, {"tokens", report.tokens}, {"loss_bf16", report.loss}, {"recipes", recipes}};
}

}  // namespace ufp4
