#include "train/gradient_analysis.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/randint.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "io/temporary_folder.h"
#include "model/transformer.h"
#include "train/micro_run.h"
#include "train/reference_loss.h"
#include "train/trainer.h"
#include "ufp4/error.h"

namespace ufp4 {
namespace {

// A trained model of two layers, one for all tests.
class GradientAnalysis : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder;
    train(micro_run("bf16"), *folder_ / "run", {}, never());
  }
  static void TearDownTestSuite() { delete folder_; }

  static GradientSettings settings() {
    GradientSettings settings;
    settings.batch = {*folder_ / "run", {}, 2, 2, DeviceKind::kCpu};
    settings.draws = 4;
    return settings;
  }
  static TemporaryFolder* folder_;
};
TemporaryFolder* GradientAnalysis::folder_ = nullptr;

Recipe recipe_of(const char* text) { return parse_recipe_choice(text, "test").recipe; }

// The reference in FP32 is written down apart from the model.
TEST(ReferenceLoss, IsThatOfTheModelForEveryKey) {
  ModelConfig plain = micro_run("bf16").model;
  plain.vocab_size = 64;
  ModelConfig biased = plain;
  biased.qkv_bias = true;
  biased.rope = {.scaling = RopeScaling::kLlama3, .factor = 4, .original_context = 8};
  ModelConfig after = plain;
  after.norm_place = NormPlace::kAfter;
  after.qk_norm = true;
  after.qk_norm_width = QkNormWidth::kAll;
  after.given_head_size = 16;
  for (const ModelConfig& config : {plain, biased, after}) {
    Transformer model(config, Recipe{}, {.seed = 3});
    std::map<std::string, at::Tensor> parameters;
    const c10::NoGradGuard no_grad;
    for (const NamedParameter& p : model.parameters()) {
      if (p.decay) p.tensor.mul_(5);
      if (p.name.ends_with("qkv_bias")) p.tensor.uniform_(-1, 1);
      parameters[p.name] = p.tensor;
    }
    const at::Tensor tokens = at::randint(64, {2, 17}, at::kLong);
    const double expected = reference_loss(config, parameters, tokens).item<double>();
    EXPECT_NEAR(model.loss_no_grad(tokens, {}).item<double>(), expected, 0.01 * expected);
  }
}

TEST_F(GradientAnalysis, Bf16IsItsOwnReferenceToTheBit) {
  GradientSettings own = settings();
  own.reference = GradientReference::kBf16;
  const GradientReport report = measure_gradients(own, std::vector<Recipe>(1));
  const RecipeGradients& bf16 = report.recipes.at(0);
  EXPECT_EQ(report.step, 8);
  EXPECT_EQ(bf16.draws, 2);  // nothing is random
  EXPECT_EQ(bf16.loss, report.loss);
  EXPECT_EQ(bf16.whole.bias_squared.value, 0);
  EXPECT_EQ(bf16.whole.alpha.value, 1);
  EXPECT_FALSE(bf16.step_ratio.has_value());
  EXPECT_EQ(bf16.layers.size(), 2u);
  EXPECT_EQ(bf16.tensors.size(), 3u + 2 * 2 + 2 * 4);  // embedding, LM head and norms, then the linears
}

TEST_F(GradientAnalysis, Bf16IsNearFp32) {
  const GradientReport report = measure_gradients(settings(), std::vector<Recipe>(1));
  const RecipeGradients& bf16 = report.recipes.at(0);
  EXPECT_NEAR(bf16.loss, report.loss, 2e-3 * report.loss);
  EXPECT_GT(bf16.whole.bias, 0);
  EXPECT_LT(bf16.whole.bias, 0.03);
  EXPECT_NEAR(bf16.whole.alpha.value, 1, 5e-3);
  EXPECT_NEAR(bf16.step_ratio->value, 1, 0.01);
  for (const TensorGradient& tensor : bf16.tensors) EXPECT_GT(tensor.figures.sqnr_db, 25) << tensor.name;
}

TEST_F(GradientAnalysis, RecipesAreToldApart) {
  GradientSettings all = settings();
  all.draws = 6;
  all.each_operand = true;
  const std::vector<Recipe> recipes{recipe_of("ufp4_no_sr:*.hadamard=0"), recipe_of("ufp4")};
  const GradientReport report = measure_gradients(all, recipes);
  const RecipeGradients& nearest = report.recipes.at(0);
  EXPECT_EQ(nearest.draws, 2);
  EXPECT_NEAR(nearest.whole.variance, 0, 1e-12);
  EXPECT_GT(nearest.whole.bias, 0.02);
  const RecipeGradients& ufp4 = report.recipes.at(1);
  EXPECT_EQ(ufp4.draws, 6);
  EXPECT_GT(ufp4.linears.variance, 0.01);
  EXPECT_LT(ufp4.linears.bias, nearest.linears.bias);
  EXPECT_NEAR(ufp4.linears.alpha.value, 1, 0.05);
  ASSERT_EQ(ufp4.operands.size(), 6u);
  double sum = 0;
  for (const OperandGradient& operand : ufp4.operands) {
    EXPECT_GT(operand.linears.sqnr_db, ufp4.linears.sqnr_db) << operand.operand << " alone";
    sum += std::pow(10, -operand.linears.sqnr_db / 10);
  }
  // Errors of different operands are nearly independent: they add up to the error of the whole.
  EXPECT_NEAR(-10 * std::log10(sum), ufp4.linears.sqnr_db, 1.5);
  const nlohmann::ordered_json json = to_json(report);
  EXPECT_EQ(json["recipes"][1]["operands"][4]["operand"], "wgrad.dy");
  EXPECT_EQ(json["recipes"][0]["whole"]["bias_squared"]["half_width"], nullptr);  // two draws have no jackknife
}

TEST_F(GradientAnalysis, OneOperandLeavesTheOthersInBf16) {
  const Recipe alone = with_one_operand(recipe_of("ufp4_p2"), Gemm::kWgrad, 0);
  for (const Gemm gemm : {Gemm::kFprop, Gemm::kDgrad, Gemm::kWgrad}) {
    EXPECT_EQ(alone[gemm].hadamard(), 16);
    for (std::size_t i = 0; i < 2; ++i) {
      EXPECT_EQ(alone[gemm].operand[i].quantized(), gemm == Gemm::kWgrad && i == 0);
    }
  }
}

TEST_F(GradientAnalysis, OneDrawIsTooFew) {
  GradientSettings one = settings();
  one.draws = 1;
  EXPECT_THROW(measure_gradients(one, std::vector<Recipe>(1)), InputError);
}

// All that a model file can choose, against the trainer's own model in BF16.
TEST(ReferenceLoss, IsTheModelsLoss) {
  for (const bool variant : {false, true}) {
    ModelConfig config;
    config.vocab_size = 64;
    config.d_model = 64;
    config.layers = 2;
    config.heads = 4;
    config.kv_heads = variant ? 2 : 0;
    config.ffn = 96;
    config.context = 48;
    config.qk_norm = variant;
    config.tie_embeddings = variant;
    Transformer model(config, Recipe{}, {.seed = 3});
    std::map<std::string, at::Tensor> parameters;
    for (const NamedParameter& parameter : model.parameters()) {
      const c10::NoGradGuard no_grad;
      parameter.tensor.mul_(4);  // a loss that is not that of a uniform guess
      parameters[parameter.name] = parameter.tensor.detach();
    }
    const at::Tensor tokens = at::randint(0, 64, {3, 40}, at::kLong);
    const double expected = model.loss_no_grad(tokens, {}).item<double>();
    EXPECT_NEAR(reference_loss(config, parameters, tokens).item<double>(), expected, 0.01 * expected) << variant;
    EXPECT_GT(std::abs(expected - std::log(64.0)), 0.1);
  }
}

}  // namespace
}  // namespace ufp4
