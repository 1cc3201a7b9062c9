#include "numerics/near_name.h"

#include <gtest/gtest.h>

#include <array>
#include <string_view>

namespace ufp4 {
namespace {

constexpr std::array<std::string_view, 4> kKnown{"e1m2", "e2m1", "int4", "int4_full"};

TEST(NearName, FindsTheClosest) {
  EXPECT_EQ(near_name("e1m3", kKnown), "e1m2");
  EXPECT_EQ(near_name("int4full", kKnown), "int4_full");
  EXPECT_EQ(near_name("int", kKnown), "int4");
  EXPECT_EQ(near_name("int4", kKnown), "int4");
}

TEST(NearName, FindsNothingWhereNothingIsNear) {
  EXPECT_EQ(near_name("bfloat16", kKnown), "");
  EXPECT_EQ(near_name("", kKnown), "");
  EXPECT_EQ(near_name("e1m2", {}), "");
}

TEST(NearName, HintNamesTheNearOneOrAll) {
  EXPECT_EQ(name_hint("e1m3", kKnown), " (did you mean 'e1m2'?)");
  EXPECT_EQ(name_hint("bfloat16", kKnown), "; known: e1m2, e2m1, int4, int4_full");
}

}  // namespace
}  // namespace ufp4
