#include "ufp4/format.h"

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "ufp4/error.h"

namespace ufp4 {
namespace {

TEST(Format, LevelsAreThoseOfTheTable) {
  const std::map<std::string_view, std::vector<float>> expected{
      {"e1m2", {0, 0.25F, 0.5F, 0.75F, 1, 1.25F, 1.5F, 1.75F}},
      {"int4", {0, 1, 2, 3, 4, 5, 6, 7}},
      {"int4_full", {0, 1, 2, 3, 4, 5, 6, 7}},
      {"e0m3", {0, 1, 2, 3, 4, 5, 6, 7}},
      {"e2m1", {0, 0.5F, 1, 1.5F, 2, 3, 4, 6}},
      {"e2m1_max4", {0, 0.5F, 1, 1.5F, 2, 3, 4}},
      {"e2m1_max3", {0, 0.5F, 1, 1.5F, 2, 3}},
      {"e2m1_max2", {0, 0.5F, 1, 1.5F, 2}},
  };
  for (const auto& [name, levels] : expected) {
    const BlockFormat& format = find_format(name);
    EXPECT_EQ(format.name, name);
    EXPECT_EQ(format.block, 16) << name;
    const ElementFormat& e = format.element;
    EXPECT_EQ(std::vector<float>(e.levels.begin(), e.levels.begin() + e.level_count), levels) << name;
    EXPECT_EQ(e.largest(), levels.back()) << name;
    EXPECT_EQ(e.uniform(), name.substr(0, 4) != "e2m1" || name == "e2m1_max2") << name;
  }
}

TEST(Format, CodesSpellTheirSign) {
  for (const BlockFormat& format : formats()) {
    const ElementFormat& e = format.element;
    for (unsigned index = 0; index < static_cast<unsigned>(e.level_count); ++index) {
      EXPECT_EQ(code_value(e, index), e.levels[index]) << format.name;
      const unsigned negative = e.code_kind == CodeKind::kSignMagnitude ? 8 + index : (16 - index) % 16;
      EXPECT_EQ(code_value(e, negative), -e.levels[index]) << format.name;
      EXPECT_EQ(code_value(e, negative | 0xF0u), -e.levels[index]) << format.name << ": only the low nibble counts";
    }
  }
  EXPECT_EQ(code_value(find_format("int4_full").element, 8), -8);
}

TEST(Format, NamesAreUniqueAndDescribed) {
  std::map<std::string_view, int> seen;
  for (const BlockFormat& format : formats()) {
    EXPECT_EQ(++seen[format.name], 1) << format.name;
    EXPECT_FALSE(format.summary.empty()) << format.name;
    EXPECT_EQ(&find_format(format.name), &format);
  }
}

TEST(Format, UnknownNameGetsANearOne) {
  try {
    find_format("e1m3");
    FAIL() << "no error";
  } catch (const InputError& error) {
    EXPECT_NE(std::string(error.what()).find("'e1m3'"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("did you mean 'e1m2'?"), std::string::npos) << error.what();
  }
  try {
    find_format("posit");
    FAIL() << "no error";
  } catch (const InputError& error) {
    for (const BlockFormat& format : formats()) {
      EXPECT_NE(std::string(error.what()).find(format.name), std::string::npos) << error.what();
    }
  }
}

}  // namespace
}  // namespace ufp4
