// The chain: quantized passes beside a BF16 pass (train/checkpoint_analysis.h).
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/dot.h>
#include <ATen/ops/embedding.h>
#include <c10/core/GradMode.h>

#include <cmath>
#include <map>
#include <string_view>

#include "torch/linear_observer.h"
#include "torch/quantized_linear.h"
#include "train/checkpoint_analysis.h"
#include "train/loaded_checkpoint.h"
#include "train/operand_analysis.h"
#include "train/torch_error.h"

namespace ufp4 {
namespace {

Agreement compare(const at::Tensor& original, const at::Tensor& image) {
  const c10::NoGradGuard no_grad;
  const at::Tensor a = original.detach().reshape({-1}).to(at::kDouble);
  const at::Tensor b = image.detach().reshape({-1}).to(at::kDouble);
  const double aa = at::dot(a, a).item<double>();
  const double bb = at::dot(b, b).item<double>();
  const double ab = at::dot(a, b).item<double>();
  if (aa == 0) return {};
  return {ab / aa, bb == 0 ? 0 : ab / std::sqrt(aa * bb), (aa - 2 * ab + bb) / aa};
}

// What the BF16 pass leaves to compare with: copies, because later passes may write into what they are shown.
class Original : public LinearObserver {
 public:
  void operand(std::uint32_t number, OperandRole role, const at::Tensor& stored) override {
    if (role == OperandRole::kFpropX || role == OperandRole::kDgradDy) {
      inputs[{number, gemm_of(role)}] = stored.detach().clone();
    }
  }
  void result(std::uint32_t number, Gemm gemm, const at::Tensor& result) override {
    results[{number, gemm}] = result.detach().clone();
  }

  using Key = std::pair<std::uint32_t, Gemm>;
  std::map<Key, at::Tensor> inputs;  // x of fprop, dy of dgrad
  std::map<Key, at::Tensor> results;
};

// Compares a quantized pass with the original as it goes.
class Image : public LinearObserver {
 public:
  Image(const Transformer& model, const Original& original, const at::Tensor& embedded, ChainRecipe& report)
      : model_(model), original_(original), stream_(embedded), original_stream_(embedded), report_(report) {}

  void operand(std::uint32_t number, OperandRole role, const at::Tensor& stored) override {
    // The gradient of what a linear adds to the stream is that of the stream.
    if (role != OperandRole::kDgradDy) return;
    for (ChainStream& point : report_.stream) {
      if (point.linear == report_.linears[number].linear) {
        point.gradient = compare(original_.inputs.at({number, Gemm::kDgrad}), stored);
      }
    }
  }

  void result(std::uint32_t number, Gemm gemm, const at::Tensor& result) override {
    ChainLinear& linear = report_.linears[number];
    const at::Tensor& expected = original_.results.at({number, gemm});
    linear.gemm[static_cast<std::size_t>(gemm)].in_chain = compare(expected, result);
    if (gemm != Gemm::kFprop || !model_.adds_to_stream(number)) return;
    const c10::NoGradGuard no_grad;
    stream_ = stream_ + result.detach();
    original_stream_ = original_stream_ + expected;
    report_.stream.push_back({linear.linear, compare(original_stream_, stream_), {}});
  }

 private:
  const Transformer& model_;
  const Original& original_;
  at::Tensor stream_;  // FP32 sums of what the model adds in BF16
  at::Tensor original_stream_;
  ChainRecipe& report_;
};

// alpha of an operand, given as stored, under its part of the recipe.
double operand_alpha(const at::Tensor& stored, OperandRole role, const OperandSpec& spec, std::uint32_t number,
                     const RandomContext& context, int threads) {
  if (!spec.quantized()) return 1;
  analysis::MatrixAnalysis analysis;
  analysis.schemes = {spec};
  analysis.place = {.seed = context.seed, .step = context.step, .stream = stream_of(number, role)};
  analysis.threads = threads;
  const at::Tensor dense = stored.contiguous().cpu();
  const analysis::MatrixSource source = analysis::source_of(matrix_of(dense), axis_of(role));
  return analysis::analyze_matrix(source, analysis).schemes[0].figures.alpha;
}

// Every GEMM of a linear by itself: quantized operands of the BF16 pass.
void measure_alone(ChainLinear& linear, std::uint32_t number, const at::Tensor& weight, const Recipe& recipe,
                   const Original& original, const RandomContext& context, int threads) {
  const at::Tensor x = original.inputs.at({number, Gemm::kFprop});
  const at::Tensor dy = original.inputs.at({number, Gemm::kDgrad});
  const at::Tensor w = weight.detach().to(at::kBFloat16);
  const auto alpha = [&](OperandRole role, const at::Tensor& stored) {
    const Gemm gemm = gemm_of(role);
    linear.gemm[static_cast<std::size_t>(gemm)].alpha[index_of(role)] =
        operand_alpha(stored, role, recipe[gemm].operand[index_of(role)], number, context, threads);
  };
  alpha(OperandRole::kFpropX, x);
  alpha(OperandRole::kFpropW, w);
  alpha(OperandRole::kDgradDy, dy);
  alpha(OperandRole::kDgradW, w);
  alpha(OperandRole::kWgradDy, dy);
  alpha(OperandRole::kWgradX, x);

  const at::Tensor x_leaf = x.clone().set_requires_grad(true);
  const at::Tensor w_leaf = weight.detach().clone().set_requires_grad(true);
  const LinearCall call{std::make_shared<const Recipe>(recipe), nullptr, number, context, Stash::kPacked};
  const at::Tensor y = quantized_linear(x_leaf, w_leaf, {w_leaf.detach(), {}}, call);
  y.backward(dy);
  const auto compare_result = [&](Gemm gemm, const at::Tensor& image) {
    ChainGemm& g = linear.gemm[static_cast<std::size_t>(gemm)];
    g.alone = compare(original.results.at({number, gemm}), image);
    // |E|^2 / |C|^2 of E = C^ - eta C.
    const double square = g.alone.nmse - 1 + 2 * g.alone.alpha - 2 * g.eta() * g.alone.alpha + g.eta() * g.eta();
    g.coherence = square > 0 ? (g.alone.alpha - g.eta()) / std::sqrt(square) : 0;
  };
  compare_result(Gemm::kFprop, y);
  compare_result(Gemm::kDgrad, x_leaf.grad());
  compare_result(Gemm::kWgrad, w_leaf.grad());
}

// The products of eta in the order of each pass.
void multiply_along(std::vector<ChainLinear>& linears) {
  double product = 1;
  for (ChainLinear& linear : linears) {
    ChainGemm& fprop = linear.gemm[static_cast<std::size_t>(Gemm::kFprop)];
    fprop.eta_product = product *= fprop.eta();
  }
  product = 1;
  for (std::size_t i = linears.size(); i-- > 0;) {
    ChainGemm& dgrad = linears[i].gemm[static_cast<std::size_t>(Gemm::kDgrad)];
    dgrad.eta_product = product *= dgrad.eta();
  }
}

}  // namespace

ChainReport measure_chain(const BatchSettings& settings, std::span<const Recipe> recipes) try {
  at::set_num_threads(settings.threads);
  const LoadedCheckpoint checkpoint(settings, recipes);
  const at::Tensor& tokens = checkpoint.tokens();
  const auto seed = static_cast<std::uint64_t>(checkpoint.config().train.seed);

  ChainReport report;
  report.step = checkpoint.step();
  report.tokens = tokens.size(0) * (tokens.size(1) - 1);
  Original original;
  Transformer model = checkpoint.model(Recipe{});
  if (settings.log) settings.log("bf16 pass");
  const at::Tensor loss = model.loss(tokens, {.seed = seed, .observer = &original});
  loss.backward();
  report.loss = loss.item<double>();

  std::map<std::string, at::Tensor> weights;
  for (const NamedParameter& parameter : model.parameters()) weights[parameter.name] = parameter.tensor.detach();
  const at::Tensor embedded = at::embedding(weights.at("embedding"), tokens.narrow(1, 0, tokens.size(1) - 1))
                                  .to(at::kBFloat16)
                                  .to(at::kFloat)
                                  .view({report.tokens, -1});
  for (const Recipe& recipe : recipes) {
    if (settings.log) settings.log(recipe.name + " pass");
    ChainRecipe result;
    result.name = recipe.name;
    for (std::size_t g = 0; g < result.hadamard.size(); ++g) result.hadamard[g] = recipe.gemm[g].hadamard();
    for (const std::string& name : model.linears()) result.linears.push_back({name, {}});
    Image image(model, original, embedded, result);
    const at::Tensor image_loss = checkpoint.model(recipe).loss(tokens, {.seed = seed, .observer = &image});
    image_loss.backward();
    result.loss = image_loss.item<double>();
    for (std::uint32_t number = 0; number < result.linears.size(); ++number) {
      ChainLinear& linear = result.linears[number];
      if (recipe.keeps_bf16(linear.linear)) continue;
      measure_alone(linear, number, weights.at(linear.linear), recipe, original, {.seed = seed}, settings.threads);
    }
    multiply_along(result.linears);
    report.recipes.push_back(std::move(result));
  }
  return report;
} catch (const c10::Error& error) {
  throw_plain(error, fewer_sequences(settings));
}

}  // namespace ufp4
