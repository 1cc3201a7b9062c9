#include "train/checkpoint_analysis.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "gpu_usable.h"
#include "io/temporary_folder.h"
#include "train/micro_run.h"
#include "train/trainer.h"
#include "ufp4/error.h"

namespace ufp4 {
namespace {

// A trained model of two layers, one for all tests.
class CheckpointAnalysis : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder;
    train(micro_run("bf16"), *folder_ / "run", {}, never());
  }
  static void TearDownTestSuite() { delete folder_; }

  static BatchSettings settings() { return {*folder_ / "run", {}, 2, 2, DeviceKind::kCpu}; }
  static TemporaryFolder* folder_;
};
TemporaryFolder* CheckpointAnalysis::folder_ = nullptr;

const ChainGemm& of(const ChainLinear& linear, Gemm gemm) { return linear.gemm[static_cast<std::size_t>(gemm)]; }

TEST_F(CheckpointAnalysis, WithoutQuantizationNothingIsLost) {
  const ChainReport report = measure_chain(settings(), std::vector<Recipe>(1));
  EXPECT_EQ(report.step, 8);
  EXPECT_EQ(report.tokens, 2 * 32);
  ASSERT_EQ(report.recipes.size(), 1u);
  const ChainRecipe& recipe = report.recipes[0];
  EXPECT_EQ(recipe.loss, report.loss);
  ASSERT_EQ(recipe.linears.size(), 8u);
  for (const ChainLinear& linear : recipe.linears) {
    for (const ChainGemm& g : linear.gemm) {
      EXPECT_EQ(g.eta(), 1);
      EXPECT_NEAR(g.alone.alpha, 1, 1e-12) << linear.linear;
      EXPECT_NEAR(g.in_chain.cosine, 1, 1e-12) << linear.linear;
    }
  }
  ASSERT_EQ(recipe.stream.size(), 4u);
  for (const ChainStream& point : recipe.stream) {
    EXPECT_NEAR(point.forward.alpha, 1, 1e-12) << point.linear;
    EXPECT_NEAR(point.gradient.nmse, 0, 1e-12) << point.linear;
  }
}

TEST_F(CheckpointAnalysis, ProductsRunAlongThePasses) {
  const std::vector<Recipe> recipes{recipe_of_format(find_format("e2m1"), 0),
                                    recipe_of_format(find_format("e1m2"), 16)};
  EXPECT_EQ(recipes[0].name, "e2m1");
  EXPECT_EQ(recipes[1].name, "e1m2+rht16");
  const ChainReport report = measure_chain(settings(), recipes);
  for (const ChainRecipe& recipe : report.recipes) {
    EXPECT_NE(recipe.loss, report.loss);
    EXPECT_NEAR(recipe.loss, report.loss, 0.2);
    double fprop = 1;
    double dgrad = 1;
    for (std::size_t i = 0; i < recipe.linears.size(); ++i) {
      const ChainLinear& down = recipe.linears[i];
      const ChainLinear& up = recipe.linears[recipe.linears.size() - 1 - i];
      EXPECT_DOUBLE_EQ(of(down, Gemm::kFprop).eta_product, fprop *= of(down, Gemm::kFprop).eta());
      EXPECT_DOUBLE_EQ(of(up, Gemm::kDgrad).eta_product, dgrad *= of(up, Gemm::kDgrad).eta());
      for (const ChainGemm& g : down.gemm) {
        EXPECT_NEAR(g.eta(), 1, 0.1) << down.linear;
        EXPECT_GT(g.alone.nmse, 1e-4) << down.linear;
        EXPECT_LT(g.alone.nmse, 1) << down.linear;
        EXPECT_LT(std::fabs(g.coherence), 0.5) << down.linear;
      }
    }
    for (const ChainStream& point : recipe.stream) EXPECT_GT(point.gradient.nmse, 0) << point.linear;
  }
  const auto json = to_json(report);
  EXPECT_EQ(json["recipes"][1]["linears"][3]["wgrad"]["eta_product"], nullptr);
  EXPECT_EQ(json["recipes"][0]["stream"].size(), 4u);
  EXPECT_EQ(json["recipes"][0]["hadamard"], (nlohmann::ordered_json{{"fprop", 0}, {"dgrad", 0}, {"wgrad", 0}}));
  EXPECT_EQ(json["recipes"][1]["hadamard"]["dgrad"], 16);
}

TEST_F(CheckpointAnalysis, OperandsAreThoseOfBothPasses) {
  const std::vector<const BlockFormat*> formats{&find_format("e1m2")};
  std::vector<std::string> names;
  analyze_operands(settings(), analysis::schemes_of(formats, 16), [&](const OperandReport& report) {
    names.push_back(report.linear + " " + std::string(report.gemm) + "." + std::string(report.operand));
    EXPECT_EQ(report.figures.schemes.size(), 2u);
    EXPECT_FALSE(report.quantized);
  });
  EXPECT_EQ(names.size(), 48u);
  EXPECT_EQ(names.front(), "layers.0.linear_qkv fprop.w");
  EXPECT_EQ(names.back().substr(0, 25), "layers.0.linear_qkv wgrad");
}

// A run in progress has a save under way.
TEST_F(CheckpointAnalysis, ReadingARunChangesNothingInIt) {
  namespace fs = std::filesystem;
  const fs::path run = *folder_ / "run";
  const fs::path saving = run / "checkpoints" / ".step-00000012.new";
  fs::create_directory(saving);
  std::ofstream(saving / "model.safetensors") << "half";
  std::ofstream(run / ".ufp4-0123.tmp") << "half";
  const auto listing = [&] {
    std::map<std::string, fs::file_time_type> files;
    for (const auto& entry : fs::recursive_directory_iterator(run)) files[entry.path()] = entry.last_write_time();
    return files;
  };
  const auto before = listing();
  analyze_operands(settings(), {}, [](const OperandReport&) {});
  measure_chain(settings(), {});
  EXPECT_EQ(listing(), before);
  fs::remove_all(saving);
  fs::remove(run / ".ufp4-0123.tmp");
}

TEST_F(CheckpointAnalysis, WhatCannotBeUsedIsNamed) {
  const auto message = [](const BatchSettings& wrong) {
    try {
      measure_chain(wrong, {});
    } catch (const InputError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  BatchSettings wrong = settings();
  if (!gpu_usable()) {
    wrong.device = DeviceKind::kCuda;
    EXPECT_NE(message(wrong).find("--device is 'cuda'"), std::string::npos) << message(wrong);
    EXPECT_NE(message(wrong).find("use the CPU"), std::string::npos) << message(wrong);
    wrong = settings();
  }
  wrong.checkpoint = *folder_ / "nothing";
  EXPECT_NE(message(wrong).find("nothing' is no checkpoint"), std::string::npos) << message(wrong);
  std::filesystem::create_directories(*folder_ / "comparison/runs/bf16-seed1");
  wrong.checkpoint = *folder_ / "comparison";
  EXPECT_NE(message(wrong).find("comparison/runs/bf16-seed1'"), std::string::npos) << message(wrong);
  wrong = settings();
  wrong.data = {(*folder_ / "nothing.txt").string()};
  EXPECT_NE(message(wrong).find("nothing.txt"), std::string::npos) << message(wrong);
}

}  // namespace
}  // namespace ufp4
