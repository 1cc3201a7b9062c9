#include "train/gradient_analysis.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/dot.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/mv.h>
#include <ATen/ops/stack.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "analysis/json.h"
#include "train/loaded_checkpoint.h"
#include "train/reference_loss.h"
#include "train/torch_error.h"
#include "ufp4/error.h"

namespace ufp4 {
namespace {

using analysis::ErrorProducts;
using analysis::gradient_figures;
using Tensors = std::map<std::string, at::Tensor>;

// Elements of every draw that are in memory in FP64 at a time.
constexpr std::int64_t kChunk = 1 << 20;

// The gradients of the model's parameters, which are then gone from it.
Tensors take_gradients(const Transformer& model) {
  Tensors gradients;
  for (const NamedParameter& parameter : model.parameters()) {
    gradients[parameter.name] = parameter.tensor.grad();
    parameter.tensor.mutable_grad() = at::Tensor();
  }
  return gradients;
}

struct Draws {
  std::vector<Tensors> gradients;
  double loss = 0;
};

bool is_random(const Recipe& recipe) {
  return std::any_of(recipe.gemm.begin(), recipe.gemm.end(), [](const GemmRecipe& gemm) {
    return gemm.quantized() &&
           (gemm.hadamard() != 0 || std::any_of(gemm.operand.begin(), gemm.operand.end(), [](const OperandSpec& spec) {
              return spec.quantized() && spec.rounding == Rounding::kStochastic;
            }));
  });
}

Draws draw(const LoadedCheckpoint& checkpoint, const Recipe& recipe, std::int64_t count) {
  Transformer model = checkpoint.model(recipe);
  Draws draws;
  const auto seed = static_cast<std::uint64_t>(checkpoint.config().train.seed);
  const std::int64_t different = is_random(recipe) ? count : 1;
  for (std::int64_t k = 0; k < different; ++k) {
    const at::Tensor loss = model.loss(checkpoint.tokens(), {.seed = seed + static_cast<std::uint64_t>(k),
                                                             .step = static_cast<std::uint32_t>(checkpoint.step())});
    loss.backward();
    draws.loss += loss.item<double>() / static_cast<double>(different);
    draws.gradients.push_back(take_gradients(model));
  }
  if (different == 1) draws.gradients.push_back(draws.gradients.front());
  return draws;
}

ErrorProducts products_of(const at::Tensor& truth, const std::vector<Tensors>& draws, const std::string& name) {
  ErrorProducts products(draws.size());
  const auto count = static_cast<std::int64_t>(draws.size());
  const at::Tensor flat = truth.reshape({-1});
  for (std::int64_t from = 0; from < flat.numel(); from += kChunk) {
    const std::int64_t size = std::min(kChunk, flat.numel() - from);
    const at::Tensor g = flat.narrow(0, from, size).to(at::kDouble);
    std::vector<at::Tensor> errors;
    errors.reserve(draws.size());
    for (const Tensors& of : draws) {
      errors.push_back(of.at(name).reshape({-1}).narrow(0, from, size).to(at::kDouble) - g);
    }
    const at::Tensor d = at::stack(errors);
    products.square += at::dot(g, g).item<double>();
    const at::Tensor along = at::mv(d, g).cpu();
    const at::Tensor between = at::mm(d, d.t()).cpu();
    for (std::int64_t k = 0; k < count; ++k) {
      products.along[static_cast<std::size_t>(k)] += along.const_data_ptr<double>()[k];
    }
    for (std::int64_t i = 0; i < count * count; ++i) {
      products.between[static_cast<std::size_t>(i)] += between.const_data_ptr<double>()[i];
    }
  }
  return products;
}

// "layers.3" of "layers.3.linear_fc1".
std::string layer_of(const std::string& linear) { return linear.substr(0, linear.rfind('.')); }

struct Truth {
  Tensors parameters;  // rounded to BF16 where a product takes them, in FP32
  Tensors gradients;
  std::vector<std::string> linears;
  double loss = 0;
};

Truth truth_of(const LoadedCheckpoint& checkpoint, GradientReference reference) {
  Transformer model = checkpoint.model(Recipe{});
  Truth truth;
  truth.linears = model.linears();
  const auto seed = static_cast<std::uint64_t>(checkpoint.config().train.seed);
  if (reference == GradientReference::kBf16) {
    const at::Tensor loss = model.loss(checkpoint.tokens(), {.seed = seed});
    loss.backward();
    truth.loss = loss.item<double>();
    truth.gradients = take_gradients(model);
    return truth;
  }
  for (const NamedParameter& parameter : model.parameters()) {
    const at::Tensor values = parameter.tensor.detach();
    truth.parameters[parameter.name] =
        (parameter.decay ? values.to(at::kBFloat16).to(at::kFloat) : values.clone()).set_requires_grad(true);
  }
  const at::Tensor loss = reference_loss(checkpoint.config().model, truth.parameters, checkpoint.tokens());
  loss.backward();
  truth.loss = loss.item<double>();
  for (auto& [name, parameter] : truth.parameters) {
    truth.gradients[name] = parameter.grad();
    parameter = parameter.detach();
  }
  return truth;
}

// The FP32 loss after a step along `gradients`, less the loss before.
double change_along(const LoadedCheckpoint& checkpoint, const Truth& truth, const Tensors& gradients, double rate) {
  const c10::NoGradGuard no_grad;
  Tensors moved;
  for (const auto& [name, parameter] : truth.parameters) moved[name] = parameter - rate * gradients.at(name);
  return reference_loss(checkpoint.config().model, moved, checkpoint.tokens()).item<double>() - truth.loss;
}

// How far a step along the draws lowers the loss, relative to one along the true gradient.
analysis::Interval step_ratio(const LoadedCheckpoint& checkpoint, const Truth& truth, const Draws& draws, double step) {
  double square = 0;
  for (const auto& [name, g] : truth.gradients) square += g.to(at::kDouble).square().sum().item<double>();
  const double rate = step * truth.loss / square;
  const double true_change = change_along(checkpoint, truth, truth.gradients, rate);
  // As figures of a gradient of one element, whose alpha is the ratio.
  ErrorProducts ratio(draws.gradients.size());
  ratio.square = 1;
  for (std::size_t k = 0; k < draws.gradients.size(); ++k) {
    ratio.along[k] = change_along(checkpoint, truth, draws.gradients[k], rate) / true_change - 1;
  }
  return gradient_figures(ratio).alpha;
}

ErrorProducts products_of_linears(const Truth& truth, const Draws& draws) {
  ErrorProducts sum(draws.gradients.size());
  for (const std::string& name : truth.linears) {
    sum += products_of(truth.gradients.at(name), draws.gradients, name);
  }
  return sum;
}

RecipeGradients measure(const LoadedCheckpoint& checkpoint, const Truth& truth, const Recipe& recipe,
                        const GradientSettings& settings) {
  const Draws draws = draw(checkpoint, recipe, settings.draws);
  RecipeGradients result;
  result.name = recipe.name;
  result.draws = static_cast<std::int64_t>(draws.gradients.size());
  result.loss = draws.loss;
  ErrorProducts whole(draws.gradients.size());
  ErrorProducts linears(draws.gradients.size());
  std::vector<std::pair<std::string, ErrorProducts>> layers;
  for (const auto& [name, g] : truth.gradients) {
    const bool is_linear = std::find(truth.linears.begin(), truth.linears.end(), name) != truth.linears.end();
    if (is_linear) continue;
    const ErrorProducts products = products_of(g, draws.gradients, name);
    whole += products;
    result.tensors.push_back({name, gradient_figures(products)});
  }
  for (const std::string& name : truth.linears) {  // in model order
    const ErrorProducts products = products_of(truth.gradients.at(name), draws.gradients, name);
    whole += products;
    linears += products;
    if (layers.empty() || layers.back().first != layer_of(name)) {
      layers.emplace_back(layer_of(name), ErrorProducts(draws.gradients.size()));
    }
    layers.back().second += products;
    result.tensors.push_back({name, gradient_figures(products)});
  }
  result.whole = gradient_figures(whole);
  result.linears = gradient_figures(linears);
  for (const auto& [name, products] : layers) result.layers.push_back({name, gradient_figures(products)});
  if (settings.reference == GradientReference::kFp32) {
    result.step_ratio = step_ratio(checkpoint, truth, draws, settings.step);
  }
  return result;
}

std::vector<OperandGradient> measure_operands(const LoadedCheckpoint& checkpoint, const Truth& truth,
                                              const Recipe& recipe, const GradientSettings& settings) {
  std::vector<OperandGradient> list;
  for (const Gemm gemm : {Gemm::kFprop, Gemm::kDgrad, Gemm::kWgrad}) {
    for (std::size_t i = 0; i < 2; ++i) {
      if (!recipe[gemm].operand[i].quantized()) continue;
      const std::string name = std::string(recipe[gemm].name) + "." + std::string(recipe[gemm].operands[i]);
      if (settings.batch.log) settings.batch.log(recipe.name + ", " + name + " alone");
      const Draws draws = draw(checkpoint, with_one_operand(recipe, gemm, i), settings.draws);
      list.push_back({name, gradient_figures(products_of_linears(truth, draws))});
    }
  }
  return list;
}

}  // namespace

Recipe with_one_operand(const Recipe& recipe, Gemm gemm, std::size_t operand) {
  Recipe alone = recipe;
  for (GemmRecipe& g : alone.gemm) {
    for (OperandSpec& spec : g.operand) spec = {.hadamard = spec.hadamard};
  }
  alone[gemm].operand[operand] = recipe[gemm].operand[operand];
  // The windows of a training are not there.
  alone[gemm].operand[operand].outer.amax = AmaxSource::kExact;
  validate(alone);
  return alone;
}

GradientReport measure_gradients(const GradientSettings& settings, std::span<const Recipe> recipes) try {
  if (settings.draws < 2) {
    throw InputError("a bias needs 2 draws at least, found " + std::to_string(settings.draws));
  }
  at::set_num_threads(settings.batch.threads);
  const LoadedCheckpoint checkpoint(settings.batch, recipes);
  if (settings.batch.log) settings.batch.log(std::string(choice_name(settings.reference)) + " pass");
  const Truth truth = truth_of(checkpoint, settings.reference);
  GradientReport report;
  report.step = checkpoint.step();
  report.tokens = checkpoint.tokens().size(0) * (checkpoint.tokens().size(1) - 1);
  report.reference = settings.reference;
  report.loss = truth.loss;
  for (const Recipe& recipe : recipes) {
    if (settings.batch.log) settings.batch.log(recipe.name + " passes");
    report.recipes.push_back(measure(checkpoint, truth, recipe, settings));
    if (settings.each_operand && recipe.quantized()) {
      report.recipes.back().operands = measure_operands(checkpoint, truth, recipe, settings);
    }
  }
  return report;
} catch (const c10::Error& error) {
  throw_plain(error, fewer_sequences(settings.batch));
}

namespace {

using Json = nlohmann::ordered_json;

// JSON has no NaN.
Json number(double value) { return std::isfinite(value) ? Json(value) : Json(); }

Json to_json(const analysis::Interval& interval) {
  return {{"value", number(interval.value)}, {"half_width", number(interval.half_width)}};
}

Json to_json(const analysis::GradientFigures& f) {
  return {{"alpha", to_json(f.alpha)},
          {"bias_squared", to_json(f.bias_squared)},
          {"bias", number(f.bias)},
          {"bias_interval", {number(f.bias_lowest), number(f.bias_highest)}},
          {"bias_across", number(f.bias_across)},
          {"variance", number(f.variance)},
          {"cosine", number(f.cosine)},
          {"sqnr_db", number(f.sqnr_db)}};
}

Json to_json(const std::vector<TensorGradient>& list) {
  Json json = Json::array();
  for (const TensorGradient& tensor : list) {
    Json entry{{"name", tensor.name}};
    entry.update(to_json(tensor.figures));
    json.push_back(std::move(entry));
  }
  return json;
}

}  // namespace

Json to_json(const GradientReport& report) {
  Json recipes = Json::array();
  for (const RecipeGradients& recipe : report.recipes) {
    Json operands = Json::array();
    for (const OperandGradient& operand : recipe.operands) {
      Json entry{{"operand", operand.operand}};
      entry.update(to_json(operand.linears));
      operands.push_back(std::move(entry));
    }
    recipes.push_back({{"name", recipe.name},
                       {"draws", recipe.draws},
                       {"loss", recipe.loss},
                       {"step_ratio", recipe.step_ratio ? to_json(*recipe.step_ratio) : Json()},
                       {"whole", to_json(recipe.whole)},
                       {"linears", to_json(recipe.linears)},
                       {"layers", to_json(recipe.layers)},
                       {"operands", std::move(operands)},
                       {"tensors", to_json(recipe.tensors)}});
  }
  return {{"step", report.step},
          {"tokens", report.tokens},
          {"reference", choice_name(report.reference)},
          {"loss", report.loss},
          {"recipes", std::move(recipes)}};
}

}  // namespace ufp4
