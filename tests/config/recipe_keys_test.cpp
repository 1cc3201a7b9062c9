#include "config/recipe_keys.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>

#include "message_of.h"
#include "ufp4/error.h"
#include "ufp4/format.h"
#include "ufp4_recipe.h"

namespace ufp4 {
namespace {

void expect_mentions(const std::string& message, std::initializer_list<std::string_view> parts) {
  for (const std::string_view part : parts) {
    EXPECT_NE(message.find(part), std::string::npos) << "'" << part << "' is not in: " << message;
  }
}

TEST(Recipe, StartsAsBf16) {
  const Recipe recipe;
  EXPECT_EQ(recipe.name, "bf16");
  EXPECT_FALSE(recipe.quantized());
  EXPECT_NO_THROW(validate(recipe));
}

TEST(Recipe, StarsReachWhatTheyName) {
  const Recipe recipe = ufp4_recipe();
  EXPECT_TRUE(recipe.quantized());
  EXPECT_NO_THROW(validate(recipe));
  for (const GemmRecipe& gemm : recipe.gemm) {
    EXPECT_EQ(gemm.hadamard(), 16) << gemm.name;
    for (std::size_t i = 0; i < 2; ++i) {
      EXPECT_EQ(gemm.operand[i].format, &find_format("e1m2"));
      const Rounding expected = gemm.operands[i] == "dy" ? Rounding::kStochastic : Rounding::kNearest;
      EXPECT_EQ(gemm.operand[i].rounding, expected) << gemm.name << "." << gemm.operands[i];
    }
  }
}

TEST(Recipe, OneKeyChangesOneThing) {
  for (const auto& [key, value] : entries(Recipe{})) {
    if (key == "name" || key == "summary" || key == "keep_bf16") continue;
    const std::string other = key.ends_with(".format")     ? "int4"
                              : key.ends_with(".rounding") ? "sr"
                              : key.ends_with(".outer")    ? "row"
                              : key.ends_with(".tau")      ? "9/8"
                              : key.ends_with(".amax")     ? "delayed"
                                                           : "32";
    Recipe recipe;
    set(recipe, key, other);
    for (const auto& [found_key, found] : entries(recipe)) {
      if (found_key == key) {
        EXPECT_EQ(found, other) << key;
      } else {
        bool unchanged = false;
        for (const auto& [k, v] : entries(Recipe{})) unchanged |= k == found_key && v == found;
        EXPECT_TRUE(unchanged) << "setting " << key << " changed " << found_key;
      }
    }
  }
}

TEST(Recipe, EntriesRoundTrip) {
  Recipe recipe = ufp4_recipe();
  set(recipe, "summary", "all, with = signs and 'quotes'");
  set(recipe, "keep_bf16", "layers.0.*, *.down ,layers.?.up");
  set(recipe, "wgrad.x.block", "64");
  set(recipe, "dgrad.hadamard", "0");
  const auto list = entries(recipe);
  Recipe copy;
  std::set<std::string> keys;
  for (const auto& [key, value] : list) {
    EXPECT_TRUE(keys.insert(key).second) << key << " comes twice";
    set(copy, key, value);
  }
  EXPECT_EQ(entries(copy), list);
  EXPECT_EQ(copy.keep_bf16, (std::vector<std::string>{"layers.0.*", "*.down", "layers.?.up"}));
}

TEST(Recipe, AFormatOfACallerIsTold) {
  BlockFormat own = find_format("e1m2");
  own.name = "mine";
  Recipe recipe;
  recipe.gemm[0].operand[0].format = &own;
  const auto list = entries(recipe);
  const std::pair<std::string, std::string> expected{"fprop.x.format", "mine"};
  EXPECT_NE(std::find(list.begin(), list.end(), expected), list.end());
}

TEST(Recipe, PatternsChooseLayers) {
  Recipe recipe;
  EXPECT_FALSE(recipe.keeps_bf16("layers.0.attention.q"));
  set(recipe, "keep_bf16", "layers.0.*,*.down,layers.?1.mlp.up");
  EXPECT_TRUE(recipe.keeps_bf16("layers.0.attention.q"));
  EXPECT_FALSE(recipe.keeps_bf16("layers.10.attention.q"));
  EXPECT_FALSE(recipe.keeps_bf16("layers.0"));
  EXPECT_TRUE(recipe.keeps_bf16("layers.7.mlp.down"));
  EXPECT_FALSE(recipe.keeps_bf16("layers.7.mlp.down2"));
  EXPECT_TRUE(recipe.keeps_bf16("layers.21.mlp.up"));
  EXPECT_FALSE(recipe.keeps_bf16("layers.1.mlp.up"));
  set(recipe, "keep_bf16", "");
  EXPECT_FALSE(recipe.keeps_bf16("layers.0.attention.q"));
  EXPECT_FALSE(recipe.keeps_bf16(""));
  set(recipe, "keep_bf16", "*");
  EXPECT_TRUE(recipe.keeps_bf16(""));
  EXPECT_TRUE(recipe.keeps_bf16("anything"));
}

// A pattern of many stars must not take exponential time.
TEST(Recipe, PatternOfManyStarsIsFast) {
  Recipe recipe;
  std::string pattern;
  for (int i = 0; i < 40; ++i) pattern += "*a";
  set(recipe, "keep_bf16", pattern + "b");
  EXPECT_FALSE(recipe.keeps_bf16(std::string(200, 'a')));
}

TEST(Recipe, ErrorsNameTheKeyAndANearOne) {
  Recipe recipe;
  expect_mentions(message_of<InputError>([&] { set(recipe, "fprop.hadamrd", "16"); }),
                  {"'fprop.hadamrd'", "'fprop.hadamard'"});
  expect_mentions(message_of<InputError>([&] { set(recipe, "dgrad.dy.ronding", "sr"); }),
                  {"'dgrad.dy.ronding'", "'dgrad.dy.rounding'"});
  expect_mentions(message_of<InputError>([&] { set(recipe, "fprop.x.format", "e1m3"); }), {"'e1m3'", "'e1m2'"});
  expect_mentions(message_of<InputError>([&] { set(recipe, "fprop.x.rounding", "up"); }),
                  {"'fprop.x.rounding'", "'up'", "rtne", "sr"});
  expect_mentions(message_of<InputError>([&] { set(recipe, "fprop.x.block", "16x"); }),
                  {"'fprop.x.block'", "'16x'", "whole number"});
  for (const char* key : {"", ".", "fprop", "fprop.", "fprop.x", "fprop..x.format", " fprop.hadamard",
                          "fprop.dy.format", "fprop.x.format.more", "*", "*.*", "*.*.*", "FPROP.hadamard"}) {
    expect_mentions(message_of<InputError>([&] { set(recipe, key, "16"); }), {"unknown recipe key", key});
  }
  for (const char* value : {"", " ", "16 ", "1e1", "99999999999", "0x10", "+16"}) {
    EXPECT_THROW(set(recipe, "fprop.hadamard", value), InputError) << "'" << value << "'";
  }
  EXPECT_EQ(entries(recipe), entries(Recipe{})) << "a refused value must change nothing";
}

TEST(Recipe, ValidateRefusesPartsThatDoNotFit) {
  Recipe recipe = ufp4_recipe();
  set(recipe, "fprop.w.format", "bf16");
  EXPECT_NO_THROW(validate(recipe));  // rotated beside the other operand, and rounded to BF16
  recipe = ufp4_recipe();
  set(recipe, "dgrad.dy.block", "24");
  expect_mentions(message_of<InputError>([&] { validate(recipe); }), {"ufp4", "dgrad.dy", "24", "16, 32, 64, 128"});
  for (const char* size : {"8", "-16", "1", "256"}) {
    recipe = ufp4_recipe();
    set(recipe, "wgrad.hadamard", size);
    expect_mentions(message_of<InputError>([&] { validate(recipe); }), {"ufp4", "wgrad", size, "16, 32, 64, 128"});
  }
  // A transform without any quantization is the identity, and left out.
  Recipe plain;
  set(plain, "*.hadamard", "16");
  EXPECT_NO_THROW(validate(plain));
}

TEST(Recipe, EveryFormatIsForTraining) {
  for (const BlockFormat& format : formats()) {
    Recipe recipe;
    set(recipe, "*.*.format", format.name);
    EXPECT_NO_THROW(validate(recipe)) << format.name;
    set(recipe, "wgrad.x.outer", "1x128");
    set(recipe, "wgrad.dy.tau", "9/8");
    if (format.has_window()) {
      EXPECT_NO_THROW(validate(recipe)) << format.name;
    } else {
      expect_mentions(message_of<InputError>([&] { validate(recipe); }), {"wgrad.dy", format.name, "tau"});
    }
  }
  Recipe recipe;
  set(recipe, "*.*.format", "hif4");
  set(recipe, "fprop.x.block", "16");
  expect_mentions(message_of<InputError>([&] { validate(recipe); }), {"fprop.x", "hif4", "64"});
}

TEST(Recipe, OuterScalesAndTauHaveNames) {
  Recipe recipe;
  set(recipe, "*.*.outer", "128x128");
  set(recipe, "fprop.x.tau", "1");
  EXPECT_EQ(recipe[Gemm::kWgrad].operand[0].outer.each, OuterScale::k128x128);
  EXPECT_EQ(recipe[Gemm::kFprop].operand[0].options.tau, 1);
  expect_mentions(message_of<InputError>([&] { set(recipe, "fprop.x.outer", "1x12"); }), {"'1x12'", "'1x128'"});
  expect_mentions(message_of<InputError>([&] { set(recipe, "fprop.x.tau", "2"); }), {"fprop.x.tau", "'2'", "9/8"});
  expect_mentions(message_of<InputError>([&] { set(recipe, "fprop.x.amax", "late"); }),
                  {"fprop.x.amax", "'late'", "'delayed'"});
}

TEST(Recipe, OnlyTheTensorsScaleOfInt4P2MayFollowADelayedAmax) {
  Recipe recipe;
  set(recipe, "*.*.format", "int4_p2");
  set(recipe, "*.*.amax", "delayed");
  EXPECT_NO_THROW(validate(recipe));
  set(recipe, "dgrad.dy.outer", "row");
  expect_mentions(message_of<InputError>([&] { validate(recipe); }), {"dgrad.dy", "delayed", "outer"});
  set(recipe, "dgrad.dy.outer", "tensor");
  set(recipe, "wgrad.x.format", "nvfp4");
  expect_mentions(message_of<InputError>([&] { validate(recipe); }), {"wgrad.x", "delayed", "int4_p2"});
}

}  // namespace
}  // namespace ufp4
