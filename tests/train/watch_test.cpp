#include "train/watch.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>

namespace ufp4 {
namespace {

// A loss that falls, with noise that a formula makes.
double usual(std::int64_t step) {
  return 2 + 3 * std::exp(-static_cast<double>(step) / 50) + 0.02 * std::sin(1.7 * static_cast<double>(step));
}

TEST(LossWatch, PointsOutASpikeAndNothingElse) {
  LossWatch watch;
  int told = 0;
  for (std::int64_t step = 1; step <= 400; ++step) {
    const bool spike = step == 200 || step == 203 || step == 300;
    const auto message = watch.see(step, spike ? usual(step) + 1 : usual(step));
    if (!message) continue;
    ++told;
    EXPECT_TRUE(step == 200 || step == 300) << *message;  // 203 is right behind
    EXPECT_NE(message->find("step " + std::to_string(step) + ": the loss has a spike: "), std::string::npos);
  }
  EXPECT_EQ(told, 2);
}

TEST(LossWatch, WaitsUntilItKnowsTheRun) {
  LossWatch watch;
  EXPECT_FALSE(watch.see(1, 5));
  EXPECT_FALSE(watch.see(2, 50));
  EXPECT_FALSE(watch.see(3, std::numeric_limits<double>::quiet_NaN()));
}

TEST(SqnrWatch, PointsOutADriftOnceForEachThreeDecibels) {
  SqnrWatch watch;
  EXPECT_FALSE(watch.see(100, "a", 20));
  EXPECT_FALSE(watch.see(200, "a", 21));
  EXPECT_FALSE(watch.see(300, "a", 18.5));
  const auto message = watch.see(400, "a", 17.9);
  ASSERT_TRUE(message);
  EXPECT_EQ(*message, "step 400: the SQNR of a has fallen to 17.90 dB, from 21.00 dB");
  EXPECT_FALSE(watch.see(500, "a", 17));
  EXPECT_TRUE(watch.see(600, "a", 14));
  EXPECT_FALSE(watch.see(700, "b", 5));
}

}  // namespace
}  // namespace ufp4
