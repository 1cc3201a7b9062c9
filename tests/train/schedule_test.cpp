#include "train/schedule.h"

#include <gtest/gtest.h>

namespace ufp4 {
namespace {

ScheduleSettings schedule(ScheduleKind kind, double warmup, double decay, double final) {
  ScheduleSettings s;
  s.kind = kind;
  s.steps = 100;
  s.warmup = warmup;
  s.decay = decay;
  s.final = final;
  return s;
}

TEST(Schedule, WarmupStableDecay) {
  const ScheduleSettings s = schedule(ScheduleKind::kWsd, 0.1, 0.2, 0);
  EXPECT_DOUBLE_EQ(learning_rate_factor(s, 1), 0.1);
  EXPECT_DOUBLE_EQ(learning_rate_factor(s, 5), 0.5);
  EXPECT_DOUBLE_EQ(learning_rate_factor(s, 10), 1);
  EXPECT_DOUBLE_EQ(learning_rate_factor(s, 80), 1);
  EXPECT_DOUBLE_EQ(learning_rate_factor(s, 81), 0.95);
  EXPECT_DOUBLE_EQ(learning_rate_factor(s, 90), 0.5);
  EXPECT_DOUBLE_EQ(learning_rate_factor(s, 100), 0);
  EXPECT_DOUBLE_EQ(learning_rate_factor(s, 1000), 0);
}

TEST(Schedule, Cosine) {
  const ScheduleSettings s = schedule(ScheduleKind::kCosine, 0, 0.2, 0.1);
  EXPECT_NEAR(learning_rate_factor(s, 50), 0.55, 1e-12);
  EXPECT_NEAR(learning_rate_factor(s, 100), 0.1, 1e-12);
  EXPECT_GT(learning_rate_factor(s, 1), 0.99);
}

TEST(Schedule, Constant) {
  const ScheduleSettings s = schedule(ScheduleKind::kConstant, 0.02, 0.9, 0);
  EXPECT_DOUBLE_EQ(learning_rate_factor(s, 1), 0.5);
  EXPECT_DOUBLE_EQ(learning_rate_factor(s, 2), 1);
  EXPECT_DOUBLE_EQ(learning_rate_factor(s, 100), 1);
}

TEST(Schedule, OneStepAndNoWarmupAreDefined) {
  ScheduleSettings s = schedule(ScheduleKind::kWsd, 0.05, 0.2, 0);
  s.steps = 1;
  EXPECT_DOUBLE_EQ(learning_rate_factor(s, 1), 1);
  s = schedule(ScheduleKind::kWsd, 1, 0, 0);
  EXPECT_DOUBLE_EQ(learning_rate_factor(s, 100), 1);
  s = schedule(ScheduleKind::kCosine, 1, 0, 0);
  EXPECT_DOUBLE_EQ(learning_rate_factor(s, 100), 1);
}

}  // namespace
}  // namespace ufp4
