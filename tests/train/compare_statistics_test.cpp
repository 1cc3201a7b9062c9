#include <gtest/gtest.h>

#include <cmath>

#include "train/compare.h"
#include "ufp4/error.h"

namespace ufp4 {
namespace {

ComparedRun run(const char* recipe, std::int64_t seed, double train_loss, double val_loss) {
  ComparedRun r{recipe, seed, {}};
  r.result.train_loss = train_loss;
  r.result.val_loss = val_loss;
  return r;
}

TEST(Compare, MeanAndStandardError) {
  const Estimate e = estimate({1, 2, 3, 6});
  EXPECT_DOUBLE_EQ(*e.mean, 3);
  EXPECT_DOUBLE_EQ(*e.sem, std::sqrt(14.0 / 3 / 4));
  EXPECT_FALSE(estimate({5}).sem);
  EXPECT_DOUBLE_EQ(*estimate({5}).mean, 5);
  EXPECT_FALSE(estimate({}).mean);
}

TEST(Compare, DegradationIsPairedBySeedAndSigned) {
  // The losses of two seeds lie far apart, the degradations do not.
  const std::vector<RecipeSummary> s =
      summarize({run("bf16", 1, 2.0, 2.1), run("bf16", 2, 4.0, 4.1), run("ufp4", 1, 2.02, 2.2),
                 run("ufp4", 2, 4.08, 4.2), run("e2m1", 1, 1.98, 1), run("e2m1", 2, 3.96, 1)});
  ASSERT_EQ(s.size(), 3U);
  EXPECT_DOUBLE_EQ(*s[0].degradation_percent.mean, 0);
  EXPECT_NEAR(*s[1].degradation_percent.mean, 1.5, 1e-9);
  EXPECT_NEAR(*s[1].degradation_percent.sem, 0.5, 1e-9);
  EXPECT_NEAR(*s[1].val_loss.mean, 3.2, 1e-9);
  EXPECT_NEAR(*s[2].degradation_percent.mean, -1, 1e-9);
  EXPECT_NEAR(*s[2].degradation_percent.sem, 0, 1e-9);
}

TEST(Compare, WithoutBf16ThereIsNoDegradation) {
  const std::vector<RecipeSummary> s = summarize({run("e2m1", 1, 2, 2), run("ufp4", 1, 2, 2)});
  EXPECT_FALSE(s[0].degradation_percent.mean);
  EXPECT_FALSE(s[0].degradation_percent.sem);
}

TEST(Contestants, NamesAndVariants) {
  const std::vector<Contestant> list = parse_contestants("bf16,ufp4,ufp4:dgrad.hadamard=0:*.dy.rounding=rtne");
  ASSERT_EQ(list.size(), 3U);
  EXPECT_EQ(list[0].folder, "bf16");
  EXPECT_EQ(list[2].label, "ufp4:dgrad.hadamard=0:*.dy.rounding=rtne");
  EXPECT_EQ(list[2].folder.find_first_of(":/*, "), std::string::npos) << list[2].folder;
  EXPECT_NE(list[2].folder, list[1].folder);
}

TEST(Contestants, WrongOnesAreRefused) {
  for (const char* text : {"", "bf16,", "bf16,,ufp4", "upf4", "ufp4,ufp4", "ufp4:hadamard", "ufp4:dgrad.hadamrd=0",
                           "ufp4:dgrad.hadamard=7", "nothere/x.toml"}) {
    EXPECT_THROW(parse_contestants(text), InputError) << text;
  }
}

}  // namespace
}  // namespace ufp4
