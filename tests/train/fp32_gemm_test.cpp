// Training as on a processor without fast BF16, whose products run in FP32.
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "io/file.h"
#include "io/temporary_folder.h"
#include "torch/products.h"
#include "train/micro_run.h"
#include "train/trainer.h"

namespace ufp4 {
namespace {

namespace fs = std::filesystem;

struct Trained {
  std::string gemm;  // as the run's description has it
  MetricsHistory history;
};

Trained train_with(std::string_view product, const char* recipe, const fs::path& folder) {
  const ForcedCpuProduct forced(find_product(product));
  EXPECT_TRUE(train(micro_run(recipe), folder, {}, never()).finished);
  const auto run = nlohmann::json::parse(io::read_text_file(folder / "run.json"));
  return {run.at("gemm").get<std::string>(), read_metrics(folder / "metrics.jsonl")};
}

// The operands have the same values and their products differ by the order of sums at most, so that now and then one is
// rounded to the other neighbour. Of that a loss shows little, and more with every step.
TEST(Fp32Gemm, TrainsAsBf16DoesButForTheOrderOfSums) {
  for (const char* recipe : {"bf16", "e2m1", "ufp4", "ufp4_p2"}) {
    const TemporaryFolder folder;
    const Trained bf16 = train_with("bf16", recipe, folder / "bf16");
    const Trained fp32 = train_with("fp32", recipe, folder / "fp32");
    const std::string prefix = recipe == std::string_view("bf16") ? "" : "emulated: ";
    EXPECT_TRUE(bf16.gemm.starts_with(prefix + std::string("bf16"))) << bf16.gemm;
    EXPECT_TRUE(fp32.gemm.starts_with(prefix + std::string("fp32 (no fast bf16 here)"))) << fp32.gemm;
    ASSERT_EQ(fp32.history.steps.size(), bf16.history.steps.size());
    for (std::size_t i = 0; i < fp32.history.steps.size(); ++i) {
      const StepMetrics& step = fp32.history.steps[i];
      EXPECT_FALSE(step.skipped);
      EXPECT_TRUE(std::isfinite(step.loss) && std::isfinite(step.grad_norm)) << recipe << ", step " << step.step;
      EXPECT_NEAR(step.loss, bf16.history.steps[i].loss, 1e-3 * step.loss) << recipe << ", step " << step.step;
      EXPECT_NEAR(step.grad_norm, bf16.history.steps[i].grad_norm, 0.05 * step.grad_norm)
          << recipe << ", step " << step.step;
    }
    EXPECT_LT(fp32.history.steps.back().loss, fp32.history.steps.front().loss) << recipe;
  }
}

// Equal settings give equal bits, whichever way the products run.
TEST(Fp32Gemm, HasTheSameBitsEveryTime) {
  const TemporaryFolder folder;
  const Trained once = train_with("fp32", "ufp4", folder / "once");
  const Trained again = train_with("fp32", "ufp4", folder / "again");
  for (std::size_t i = 0; i < once.history.steps.size(); ++i) {
    EXPECT_EQ(once.history.steps[i].loss, again.history.steps[i].loss);
  }
}

}  // namespace
}  // namespace ufp4
