#include "analyze_checkpoint.h"

#include <fmt/core.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "analysis/json.h"
#include "analyze.h"
#include "config/run_config.h"
#include "say.h"
#include "train/checkpoint_analysis.h"

namespace ufp4::app {
namespace {

using Json = nlohmann::ordered_json;

BatchSettings settings_of(const CheckpointRun& run) {
  const auto log = [](const std::string& message) { say(fmt::format("ufp4: {}\n", message)); };
  return {run.checkpoint, run.data, run.sequences, run.threads, run.device, log};
}

const ChainGemm& of(const ChainLinear& linear, Gemm gemm) { return linear.gemm[static_cast<std::size_t>(gemm)]; }

void print_recipe(const ChainRecipe& recipe, double loss_bf16) {
  fmt::print("\n{}: loss {:.4f}, bf16 {:.4f}\n", recipe.name, recipe.loss, loss_bf16);
  fmt::print("{:<22} {:>42} {:>42}\n", "", "forward (y)", "backward (dx)");
  fmt::print("{:<22}", "linear");
  for (int i = 0; i < 2; ++i) {
    fmt::print(" {:>8} {:>8} {:>8} {:>8} {:>8}", "eta", "product", "alpha", "cosine", "cohere");
  }
  fmt::print("\n");
  for (const ChainLinear& linear : recipe.linears) {
    fmt::print("{:<22}", linear.linear);
    for (const Gemm gemm : {Gemm::kFprop, Gemm::kDgrad}) {
      const ChainGemm& g = of(linear, gemm);
      fmt::print(" {:>8.4f} {:>8.4f} {:>8.4f} {:>8.4f} {:>+8.4f}", g.eta(), g.eta_product, g.in_chain.alpha,
                 g.in_chain.cosine, g.coherence);
    }
    fmt::print("\n");
  }
  if (recipe.stream.empty()) return;
  const ChainStream& last = recipe.stream.back();
  const ChainStream& first = recipe.stream.front();
  fmt::print("residual stream at the end: alpha {:.4f}, cosine {:.4f}; its gradient at the beginning: {:.4f}, {:.4f}\n",
             last.forward.alpha, last.forward.cosine, first.gradient.alpha, first.gradient.cosine);
}

}  // namespace

void print_operands(const CheckpointRun& run, const std::vector<OperandSpec>& schemes) {
  Json operands = Json::array();
  analyze_operands(settings_of(run), schemes, [&](const OperandReport& report) {
    if (run.json) {
      operands.push_back(to_json(report));
    } else {
      print_figures(fmt::format("{} {}.{}", report.linear, report.gemm, report.operand), report.figures, run.bins);
    }
  });
  if (run.json) {
    const Json json{{"kind", "operands"},
                    {"source", run.checkpoint},
                    {"formats", expected_bins_of(schemes)},
                    {"operands", std::move(operands)}};
    fmt::print("{}\n", json.dump(1));
  }
}

void print_chain(const CheckpointRun& run, const std::vector<OperandSpec>& schemes,
                 const std::vector<std::string>& recipes) {
  std::vector<Recipe> list;
  list.reserve(schemes.size() + recipes.size());
  for (const OperandSpec& scheme : schemes) list.push_back(recipe_of_format(*scheme.format, scheme.hadamard.size));
  for (const std::string& name : recipes) {
    Recipe recipe = parse_recipe_choice(name, "--recipes").recipe;
    // Some recipes are called as the format they are made of.
    const auto same = [&](const Recipe& other) { return other.name == recipe.name; };
    if (std::any_of(list.begin(), list.end(), same)) recipe.name += " (recipe)";
    list.push_back(std::move(recipe));
  }
  const ChainReport report = measure_chain(settings_of(run), list);
  if (run.json) {
    Json json{{"kind", "chain"}, {"source", run.checkpoint}};
    json.update(to_json(report));
    fmt::print("{}\n", json.dump(1));
    return;
  }
  fmt::print(
      "step {}, {} tokens. eta: alpha of the two operands of a GEMM, multiplied; product: of eta along the pass\n"
      "(Eq. 3 to 5). alpha and cosine: of the quantized pass's result with that of the BF16 pass. cohere: of one "
      "GEMM's\n"
      "residual with its result, which the equations take as zero.\n",
      report.step, report.tokens);
  for (const ChainRecipe& recipe : report.recipes) print_recipe(recipe, report.loss);
}

}  // namespace ufp4::app
