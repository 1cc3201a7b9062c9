#include "config/recipes.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "message_of.h"
#include "ufp4/error.h"

namespace ufp4 {
namespace {

std::string refusal(std::string_view text) {
  return message_of<InputError>([&] { find_or_parse_recipe(text); });
}

TEST(Recipes, AllThatAreCompiledInAreValid) {
  const std::vector<std::string_view> names = known_recipes();
  ASSERT_GE(names.size(), 4U);
  EXPECT_EQ(names.front(), "bf16");
  for (const std::string_view name : names) EXPECT_EQ(load_recipe(std::string(name)).name, name);
}

TEST(Recipes, OperatorsTakeANameAListOrAChangedName) {
  for (const std::string_view name : known_recipes()) {
    EXPECT_EQ(entries(find_or_parse_recipe(name)), entries(load_recipe(std::string(name)))) << name;
  }
  const Recipe list = find_or_parse_recipe(" *.*.format = e1m2;*.hadamard = 16; *.dy.rounding = sr; ");
  const Recipe ufp4 = load_recipe("ufp4");
  EXPECT_EQ(list.name, "custom");
  EXPECT_EQ(describe_changes(ufp4, list), "ufp4");
  Recipe renamed = list;
  renamed.name = "ufp4";
  EXPECT_EQ(describe_changes(renamed, ufp4), "ufp4");

  const Recipe changed = find_or_parse_recipe("ufp4; dgrad.hadamard = 0");
  EXPECT_EQ(changed.name, "ufp4; dgrad.hadamard = 0");
  EXPECT_EQ(changed[Gemm::kDgrad].hadamard(), 0);
  EXPECT_EQ(changed[Gemm::kFprop].hadamard(), 16);
  EXPECT_EQ(find_or_parse_recipe("ufp4; name = mine").name, "mine");
  EXPECT_FALSE(find_or_parse_recipe("").quantized());
}

TEST(Recipes, WhatIsNeitherIsRefusedWithANearName) {
  EXPECT_EQ(refusal("ufp_p2"), "unknown recipe 'ufp_p2' (did you mean 'ufp4_p2'?)");
  EXPECT_NE(refusal("no_such_thing").find("known: bf16, "), std::string::npos);
  EXPECT_NE(refusal("my/recipe.toml").find("unknown recipe 'my/recipe.toml'"), std::string::npos);
  EXPECT_EQ(refusal("ufp4; e2m1"), "recipe entry 'e2m1' is not of the form key = value");
  EXPECT_NE(refusal("*.hadamard = 16; ufp4").find("recipe entry 'ufp4'"), std::string::npos);
  EXPECT_NE(refusal("ufp4; fprop.hadamrd = 0").find("'fprop.hadamard'"), std::string::npos);
}

TEST(Recipes, AnOptionTakesChangesAfterColons) {
  const RecipeChoice plain = parse_recipe_choice("ufp4", "--recipe");
  EXPECT_EQ(plain.label, "ufp4");
  ASSERT_EQ(plain.assignments.size(), 1U);
  EXPECT_EQ(plain.assignments[0].key, "recipe.base");

  const RecipeChoice changed = parse_recipe_choice("ufp4:dgrad.hadamard=0:wgrad.dy.rounding=rtne", "--recipe");
  EXPECT_EQ(changed.label, "ufp4:dgrad.hadamard=0:wgrad.dy.rounding=rtne");
  EXPECT_EQ(changed.recipe.name, changed.label);
  EXPECT_EQ(changed.recipe[Gemm::kDgrad].hadamard(), 0);
  EXPECT_EQ(changed.recipe[Gemm::kWgrad].operand[0].rounding, Rounding::kNearest);
  ASSERT_EQ(changed.assignments.size(), 4U);
  EXPECT_EQ(changed.assignments[1].key, "recipe.dgrad.hadamard");
  EXPECT_EQ(changed.assignments[1].where, "--recipe");
  EXPECT_EQ(changed.assignments[3].key, "recipe.name");

  for (const char* bad :
       {"ufp4:", "ufp4:dgrad.hadamard=0:", "ufp4:dgrad.hadamard", "ufp4:a=1", "upf4:dgrad.hadamard=0", ""}) {
    EXPECT_THROW(parse_recipe_choice(bad, "--recipe"), InputError) << bad;
  }
}

TEST(Recipes, AFileIsCalledByTheNameInsideIt) {
  const std::filesystem::path path = std::filesystem::path(testing::TempDir()) / "some_recipe.toml";
  std::ofstream(path) << "[fprop]\nx = { format = \"e1m2\" }\nw = { format = \"e1m2\" }\n";
  EXPECT_EQ(load_recipe(path.string()).name, "some_recipe");
  std::ofstream(path) << "name = \"mine\"\n\"*.*.format\" = \"e1m2\"\n";
  EXPECT_EQ(parse_recipe_choice(path.string(), "--recipe").label, "mine");
  EXPECT_EQ(parse_recipe_choice(path.string() + ":*.hadamard=16", "--recipe").label, "mine:*.hadamard=16");
}

TEST(Recipes, ChangesAreTold) {
  const Recipe base = load_recipe("ufp4");
  Recipe recipe = base;
  set(recipe, "summary", "another");
  EXPECT_EQ(describe_changes(recipe, base), "ufp4");
  set(recipe, "dgrad.hadamard", "0");
  EXPECT_EQ(describe_changes(recipe, base), "ufp4 with dgrad.hadamard=0");
  set(recipe, "*.*.rounding", "sr");
  EXPECT_EQ(describe_changes(recipe, base),
            "ufp4 with fprop.x.rounding=sr, fprop.w.rounding=sr, dgrad.hadamard=0 and 2 more keys changed");
  recipe.name = "mine";
  EXPECT_EQ(describe_changes(recipe, base), "mine");
}

}  // namespace
}  // namespace ufp4
