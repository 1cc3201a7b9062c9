#include "analyze_checkpoint.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "analysis/json.h"
#include "analyze.h"
#include "config/run_config.h"
#include "say.h"
#include "train/checkpoint_analysis.h"
#include "train/gradient_analysis.h"

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

void print_figures(const std::string& name, const analysis::GradientFigures& f) {
  fmt::print("{:<26} {:>8.4f} {:>9} {:>8.4f} {:>19} {:>8.4f} {:>8.4f} {:>8.4f} {:>7.2f}\n", name, f.alpha.value,
             std::isnan(f.alpha.half_width) ? "" : fmt::format("± {:.4f}", f.alpha.half_width), f.bias,
             std::isnan(f.bias_lowest) ? "" : fmt::format("[{:.4f}, {:.4f}]", f.bias_lowest, f.bias_highest),
             f.bias_across, std::sqrt(f.variance), f.cosine, f.sqnr_db);
}

void print_recipe(const RecipeGradients& recipe) {
  fmt::print("\n{}: {}, loss {:.4f}{}\n", recipe.name,
             recipe.draws == 2 ? "nothing random or two draws" : fmt::format("{} draws", recipe.draws), recipe.loss,
             recipe.step_ratio
                 ? fmt::format(", step {:.4f} ± {:.4f}", recipe.step_ratio->value, recipe.step_ratio->half_width)
                 : "");
  fmt::print("{:<26} {:>8} {:>8} {:>8} {:>19} {:>8} {:>8} {:>8} {:>7}\n", "", "alpha", "", "bias", "", "across", "sd",
             "cosine", "SQNR dB");
  print_figures("all parameters", recipe.whole);
  print_figures("weights of the linears", recipe.linears);
  for (const TensorGradient& layer : recipe.layers) print_figures("  " + layer.name, layer.figures);
  for (const OperandGradient& operand : recipe.operands) {
    print_figures("  " + operand.operand + " alone", operand.linears);
  }
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

void print_gradients(const CheckpointRun& run, const GradientRun& gradients) {
  GradientSettings settings;
  settings.batch = settings_of(run);
  settings.reference = find_choice<GradientReference>("--reference", gradients.reference);
  settings.draws = gradients.draws;
  settings.each_operand = gradients.each_operand;
  std::vector<Recipe> recipes;
  for (const std::string& name : gradients.recipes) recipes.push_back(parse_recipe_choice(name, "--recipes").recipe);
  const GradientReport report = measure_gradients(settings, recipes);
  if (run.json) {
    Json json{{"kind", "gradients"}, {"source", run.checkpoint}};
    json.update(to_json(report));
    fmt::print("{}\n", json.dump(1));
    return;
  }
  fmt::print(
      "step {}, {} tokens, loss {:.4f}; the gradient of the loss against the one in {}, relative to its size.\n"
      "alpha: what is left of it; bias: of the mean over draws, with its 95 % interval; across: the part of the bias\n"
      "beside the gradient; sd: root of the variance of a draw; step: what a small step does to the loss, against the\n"
      "same step along the true gradient.\n",
      report.step, report.tokens, report.loss, choice_name(report.reference));
  for (const RecipeGradients& recipe : report.recipes) print_recipe(recipe);
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
