#include "train/metrics.h"

#include <gtest/gtest.h>

#include <fstream>

#include "io/file.h"
#include "io/temporary_folder.h"
#include "ufp4/error.h"

namespace ufp4 {
namespace {

StepMetrics at_step(std::int64_t step, double loss) {
  StepMetrics m;
  m.step = step;
  m.loss = loss;
  m.tokens = step * 10;
  return m;
}

TEST(Metrics, ReadBackExactly) {
  const TemporaryFolder folder;
  const auto path = folder / "metrics.jsonl";
  {
    MetricsWriter writer(path, 0);
    StepMetrics first = at_step(1, 0.1 + 0.2);
    first.requantized = 7;
    writer.write(first);
    StepMetrics skipped = at_step(2, 0);
    skipped.skipped = true;
    writer.write(skipped);
    writer.write(Validation{2, 1.0 / 3.0});
  }
  const MetricsHistory history = read_metrics(path);
  ASSERT_EQ(history.steps.size(), 2U);
  EXPECT_EQ(history.steps[0].loss, 0.1 + 0.2);
  EXPECT_EQ(history.steps[0].requantized, 7);
  EXPECT_EQ(history.steps[1].requantized, 0);
  EXPECT_TRUE(history.steps[1].skipped);
  ASSERT_EQ(history.validations.size(), 1U);
  EXPECT_EQ(history.validations[0].loss, 1.0 / 3.0);
}

TEST(Metrics, ContinuingDropsLaterLinesAndACutOne) {
  const TemporaryFolder folder;
  const auto path = folder / "metrics.jsonl";
  {
    MetricsWriter writer(path, 0);
    for (int step = 1; step <= 5; ++step) writer.write(at_step(step, step));
  }
  std::ofstream(path, std::ios::app) << "{\"step\":6,\"lo";
  {
    MetricsWriter writer(path, 3);
    writer.write(at_step(4, 40));
  }
  const MetricsHistory history = read_metrics(path);
  ASSERT_EQ(history.steps.size(), 4U);
  EXPECT_EQ(history.steps[2].loss, 3);
  EXPECT_EQ(history.steps[3].loss, 40);
}

TEST(Metrics, AForeignLineIsNamed) {
  const TemporaryFolder folder;
  const auto path = folder / "metrics.jsonl";
  io::atomic_write_file(path, std::string_view("{\"step\":1,\"val_loss\":2}\nhello\n"));
  try {
    read_metrics(path);
    FAIL();
  } catch (const InputError& error) {
    EXPECT_NE(std::string(error.what()).find("metrics.jsonl:2"), std::string::npos) << error.what();
  }
}

TEST(Metrics, TrainLossIsTheMeanOfTheLastTenth) {
  std::vector<StepMetrics> steps;
  for (int step = 1; step <= 40; ++step) steps.push_back(at_step(step, step));
  EXPECT_DOUBLE_EQ(*final_train_loss(steps, 40), (37 + 38 + 39 + 40) / 4.0);
  steps[39].skipped = true;
  EXPECT_DOUBLE_EQ(*final_train_loss(steps, 40), (37 + 38 + 39) / 3.0);
  EXPECT_DOUBLE_EQ(*final_train_loss({at_step(1, 5)}, 1), 5);
  EXPECT_FALSE(final_train_loss({}, 10));
}

}  // namespace
}  // namespace ufp4
