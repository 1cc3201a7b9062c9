#include "io/workers.h"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>

namespace ufp4::io {
namespace {

TEST(Workers, EveryIndexRunsOnce) {
  std::vector<int> runs(17, 0);
  Workers workers(runs.size(), [&](std::size_t i) { ++runs[i]; });
  workers.join();
  EXPECT_EQ(runs, std::vector<int>(17, 1));
  EXPECT_TRUE(workers.end_within(std::chrono::milliseconds(0)));
}

TEST(Workers, NoneIsDoneAtOnce) {
  Workers workers(0, [](std::size_t) { FAIL() << "called"; });
  EXPECT_TRUE(workers.end_within(std::chrono::milliseconds(0)));
  workers.join();
}

TEST(Workers, HaveNotEndedWhileOneRuns) {
  std::atomic<bool> go{false};
  Workers workers(2, [&](std::size_t i) {
    if (i == 0) go.wait(false);
  });
  EXPECT_FALSE(workers.end_within(std::chrono::milliseconds(1)));
  go = true;
  go.notify_one();
  workers.join();
  EXPECT_TRUE(workers.end_within(std::chrono::milliseconds(0)));
}

TEST(Workers, TheFirstFailureIsThrownWhenAllHaveEnded) {
  std::atomic<int> ended{0};
  std::atomic<bool> failed{false};
  Workers workers(4, [&](std::size_t i) {
    if (i == 2) {
      failed = true;
      failed.notify_all();
      throw std::runtime_error("the third");
    }
    failed.wait(false);
    ++ended;
  });
  EXPECT_THROW(workers.join(), std::runtime_error);
  EXPECT_EQ(ended, 3);
  workers.join();  // thrown once
}

}  // namespace
}  // namespace ufp4::io
