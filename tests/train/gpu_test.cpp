// Training on a GPU. Skipped where there is none.
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "gpu_usable.h"
#include "io/file.h"
#include "io/temporary_folder.h"
#include "train/checkpoint_analysis.h"
#include "train/micro_run.h"
#include "train/trainer.h"
#include "ufp4/error.h"

namespace ufp4 {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> losses(const fs::path& run) {
  std::vector<std::string> lines;
  const MetricsHistory history = read_metrics(run / "metrics.jsonl");
  for (const StepMetrics& m : history.steps) lines.push_back(nlohmann::json{m.step, m.loss, m.grad_norm}.dump());
  for (const Validation& v : history.validations) lines.push_back(nlohmann::json{v.step, v.loss}.dump());
  return lines;
}

std::string weights(const fs::path& run) {
  const io::MappedFile map(run / "checkpoints" / "step-00000020" / "model.safetensors");
  return std::string(map.text());
}

// Bytes, before the first step that measures operands.
double peak(const fs::path& run) {
  return static_cast<double>(read_metrics(run / "metrics.jsonl").steps.at(4).memory_bytes);
}

class GpuTrain : public testing::Test {
 protected:
  void SetUp() override {
    if (!gpu_usable()) GTEST_SKIP() << "no GPU, or a build without CUDA";
  }

  // 20 steps of two micro-batches, on a model whose attention has several blocks.
  fs::path run(const char* recipe, const std::vector<const char*>& settings = {}) {
    fs::path to = folder_ / ("run" + std::to_string(runs_++));
    train(config(recipe, settings), to, {}, never());
    return to;
  }

  static RunConfig config(const char* recipe, const std::vector<const char*>& settings) {
    std::vector<Assignment> all =
        micro_settings(recipe, {"train.device=cuda", "train.steps=20", "train.batch=4", "train.micro_batch=2",
                                "model.context=2048", "model.d_model=128", "model.heads=2", "model.ffn=192"});
    for (const char* text : settings) all.push_back(parse_override(text, "test"));
    return make_run_config(all);
  }

  TemporaryFolder folder_;
  int runs_ = 0;
};

TEST_F(GpuTrain, NeitherStashNorGraphNorFusedProducersNorRecomputationChangeABit) {
  for (const char* recipe : {"ufp4", "e2m1", "ufp4_full", "ufp4_p2", "bf16"}) {
    for (const char* micro_batch : {"train.micro_batch=4", "train.micro_batch=2"}) {  // one a step, and two
      const fs::path all = run(recipe, {micro_batch});
      for (const char* off :
           {"train.stash=none", "train.graph=off", "train.producers=separate", "train.recompute=ffn"}) {
        const fs::path without = run(recipe, {micro_batch, off});
        EXPECT_EQ(losses(without), losses(all)) << recipe << ", " << micro_batch << ", " << off;
        EXPECT_TRUE(weights(without) == weights(all)) << recipe << ", " << micro_batch << ", " << off;
      }
    }
  }
}

// Activations so large beside the work of a layer that copies are under way all the time.
TEST_F(GpuTrain, OffloadingChangesNoBit) {
  for (const char* recipe : {"ufp4_p2", "bf16"}) {
    for (const char* micro_batch : {"train.micro_batch=4", "train.micro_batch=2"}) {
      const auto deep = [&](std::vector<const char*> settings) {
        settings.insert(settings.end(), {micro_batch, "model.layers=8", "model.ffn=1024", "train.eval_every=7"});
        return run(recipe, settings);
      };
      const fs::path all = deep({});
      const RunConfig run_config = config(recipe, {micro_batch, "model.ffn=1024"});
      const double one = fc1_result_bytes(run_config.model, run_config.train.micro_batch * run_config.model.context);
      for (const std::vector<const char*>& settings :
           {std::vector{"train.offload_layers=3"}, std::vector{"train.offload_layers=8"},
            std::vector{"train.offload_layers=4", "train.graph=off"},
            std::vector{"train.offload_layers=2", "train.recompute=ffn", "train.recompute_layers=1",
                        "train.analyze_every=6"}}) {
        const fs::path offloaded = deep(settings);
        EXPECT_EQ(losses(offloaded), losses(all)) << recipe << ", " << micro_batch << ", " << settings[0];
        EXPECT_TRUE(weights(offloaded) == weights(all)) << recipe << ", " << micro_batch << ", " << settings[0];
        EXPECT_LT(peak(offloaded), peak(all) - 2 * one) << recipe << ", " << micro_batch << ", " << settings[0];
      }
    }
  }
}

// Longer than a tile of the fused kernels: norm and SwiGLU write what they make.
TEST_F(GpuTrain, LongTransformsAndBlocksTrain) {
  for (const char* setting : {"recipe.*.hadamard=128", "recipe.*.*.block=128"}) {
    const MetricsHistory history = read_metrics(run("ufp4", {setting}) / "metrics.jsonl");
    EXPECT_LT(history.steps.back().loss, 0.9 * history.steps.front().loss) << setting;
  }
}

TEST_F(GpuTrain, ResumesToTheSameBits) {
  for (const char* recipe : {"ufp4", "ufp4_p2"}) {
    const fs::path whole = run(recipe);
    const fs::path parts = folder_ / (std::string("parts-") + recipe);
    // A step at which the whole run validates too.
    train(config(recipe, {"train.steps=12", "schedule.steps=20"}), parts, {}, never());
    train(config(recipe, {"schedule.steps=20"}), parts, {}, never());
    EXPECT_EQ(losses(parts), losses(whole)) << recipe;
    EXPECT_TRUE(weights(parts) == weights(whole)) << recipe;
  }
}

// The first step is on equal weights: what differs is the rounding of operands to BF16, which fp8 does not have.
TEST_F(GpuTrain, Fp8AgreesWithItsEmulation) {
  for (const char* amax : {"recipe.*.*.amax=delayed", "recipe.*.*.amax=exact"}) {
    const fs::path fp8 = run("ufp4_p2", {amax});
    const fs::path emulated = run("ufp4_p2", {amax, "train.gemm=emulated"});
    EXPECT_EQ(nlohmann::json::parse(io::read_text_file(fp8 / "run.json")).at("gemm"), "fp8");
    EXPECT_EQ(nlohmann::json::parse(io::read_text_file(emulated / "run.json")).at("gemm"), "emulated: bf16");
    const MetricsHistory a = read_metrics(fp8 / "metrics.jsonl");
    const MetricsHistory b = read_metrics(emulated / "metrics.jsonl");
    EXPECT_NE(a.steps.back().loss, b.steps.back().loss);
    EXPECT_NEAR(a.steps.front().loss, b.steps.front().loss, 2e-3);
    EXPECT_NEAR(a.steps.front().grad_norm, b.steps.front().grad_norm, 0.02 * b.steps.front().grad_norm);
    EXPECT_NEAR(a.steps.back().loss, b.steps.back().loss, 0.05);
  }
}

TEST_F(GpuTrain, TheSameRunHasTheSameBitsAndMemory) {
  const fs::path first = run("ufp4", {"model.heads=1"});
  for (int again = 0; again < 2; ++again) {
    const fs::path next = run("ufp4", {"model.heads=1"});
    EXPECT_EQ(losses(next), losses(first));
    EXPECT_NEAR(peak(next), peak(first), 0.05 * peak(first));  // what an allocator rounds up depends on what was there
  }
}

TEST_F(GpuTrain, TheLossFalls) {
  for (const char* recipe : {"bf16", "ufp4", "ufp4_p2"}) {
    const MetricsHistory history = read_metrics(run(recipe) / "metrics.jsonl");
    EXPECT_LT(history.steps.back().loss, 0.9 * history.steps.front().loss) << recipe;
  }
}

// The chain of a checkpoint on the GPU is that on the CPU, but for the order of sums in the products.
TEST_F(GpuTrain, AChainAgreesWithTheCpus) {
  BatchSettings settings{run("bf16"), {}, 1, 2, DeviceKind::kCpu};
  const std::vector<Recipe> recipes{recipe_of_format(find_format("e2m1"), 0),
                                    recipe_of_format(find_format("e1m2"), 16)};
  const ChainReport cpu = measure_chain(settings, recipes);
  settings.device = DeviceKind::kCuda;
  const ChainReport gpu = measure_chain(settings, recipes);
  EXPECT_NEAR(gpu.loss, cpu.loss, 5e-3);
  for (std::size_t r = 0; r < recipes.size(); ++r) {
    EXPECT_NEAR(gpu.recipes[r].loss, cpu.recipes[r].loss, 2e-2) << recipes[r].name;
    ASSERT_EQ(gpu.recipes[r].linears.size(), cpu.recipes[r].linears.size());
    for (std::size_t i = 0; i < cpu.recipes[r].linears.size(); ++i) {
      for (std::size_t g = 0; g < 3; ++g) {
        const ChainGemm& a = gpu.recipes[r].linears[i].gemm[g];
        const ChainGemm& b = cpu.recipes[r].linears[i].gemm[g];
        EXPECT_NEAR(a.eta(), b.eta(), 5e-3) << cpu.recipes[r].linears[i].linear;
        EXPECT_NEAR(a.alone.alpha, b.alone.alpha, 1e-2) << cpu.recipes[r].linears[i].linear;
        EXPECT_NEAR(a.in_chain.cosine, b.in_chain.cosine, 2e-2) << cpu.recipes[r].linears[i].linear;
      }
    }
  }
}

TEST_F(GpuTrain, OperandsOfACheckpointAreMeasured) {
  BatchSettings settings{run("bf16"), {}, 1, 2, DeviceKind::kCuda};
  const BlockFormat* const format = &find_format("hif4");  // measured on the CPU, whatever the GPU has
  std::size_t operands = 0;
  analyze_operands(settings, analysis::schemes_of({&format, 1}, 16), [&](const OperandReport& report) {
    ++operands;
    EXPECT_GT(report.figures.rms, 0) << report.linear;
  });
  EXPECT_EQ(operands, 48u);
}

TEST_F(GpuTrain, TheFormatsOfOthersTrainToo) {
  for (const char* recipe : {"nvfp4", "nvint4", "mxfp4", "four_over_six", "hif4"}) {
    const fs::path folder = run(recipe);
    const std::vector<StepMetrics> steps = read_metrics(folder / "metrics.jsonl").steps;
    ASSERT_EQ(steps.size(), 20u) << recipe;
    for (const StepMetrics& step : steps) EXPECT_TRUE(std::isfinite(step.loss)) << recipe << ", step " << step.step;
    EXPECT_LT(steps.back().loss, steps.front().loss) << recipe;
    const std::vector<std::string> found = losses(folder);
    for (const char* off : {"train.stash=none", "train.graph=off", "train.producers=separate"}) {
      EXPECT_EQ(losses(run(recipe, {off})), found) << recipe << ", " << off;
    }
  }
}

TEST_F(GpuTrain, ARunThatWillNotFitIsRefusedBefore) {
  try {
    run("bf16", {"train.batch=65536", "train.micro_batch=65536", "model.context=4096"});
    ADD_FAILURE() << "nothing was thrown";
  } catch (const InputError& error) {
    EXPECT_NE(std::string(error.what()).find("train.micro_batch"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("are free on cuda"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace ufp4
