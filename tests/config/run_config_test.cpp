#include "config/run_config.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "ufp4/error.h"

namespace ufp4 {
namespace {

RunConfig make(std::initializer_list<const char*> overrides) {
  std::vector<Assignment> list{{"model.base", {"tiny"}, "--model"}};
  for (const char* text : overrides) list.push_back(parse_override(text, "--set"));
  return make_run_config(list);
}

struct BadSetting {
  const char* text;
  std::vector<std::string> expected;  // parts of the message
};

class BadSettingTest : public testing::TestWithParam<BadSetting> {};

TEST_P(BadSettingTest, IsRefusedWithKeyValueAndExpectation) {
  try {
    make({GetParam().text});
    FAIL() << GetParam().text << " was accepted";
  } catch (const InputError& error) {
    for (const std::string& part : GetParam().expected) {
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what() << "\nlacks: " << part;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Settings, BadSettingTest,
    testing::Values(
        BadSetting{"train.steps=0", {"--set", "train.steps", "'0'", "whole number from 1"}},
        BadSetting{"train.steps=-5", {"train.steps", "'-5'"}},
        BadSetting{"train.steps=1e3", {"train.steps", "'1e3'", "whole number"}},
        BadSetting{"train.steps=99999999999999999999", {"train.steps", "1000000000"}},
        BadSetting{"train.steps=", {"train.steps", "''"}}, BadSetting{"train.batch=0", {"train.batch", "'0'"}},
        BadSetting{"train.batch=-1", {"train.batch", "'-1'"}},
        BadSetting{"train.batch=100000000", {"train.batch", "1048576"}},
        BadSetting{"train.micro_batch=3", {"train.micro_batch", "3", "divisor of train.batch", "8"}},
        BadSetting{"train.analyze_formats=e2m1,e1m3", {"train.analyze_formats", "'e1m3'", "e1m2"}},
        BadSetting{"train.step=5", {"unknown key 'train.step'", "train.steps"}},
        BadSetting{"optimiser.lr=1", {"unknown key", "optimizer.lr"}},
        BadSetting{"optimizer.learning_rate=1", {"'optimizer.learning_rate'", "did you mean 'optimizer.lr'"}},
        BadSetting{"n_layer=2", {"did you mean 'model.layers'"}},
        BadSetting{"colour=1", {"unknown key 'colour'", "--help-config"}},
        BadSetting{"optimizer.lr=-1", {"optimizer.lr", "'-1'", "0 to 10"}},
        BadSetting{"optimizer.lr=nan", {"optimizer.lr", "'nan'"}},
        BadSetting{"optimizer.lr=fast", {"optimizer.lr", "'fast'", "a number"}},
        BadSetting{"optimizer.beta1=1", {"optimizer.beta1"}},
        BadSetting{"schedule.kind=linear", {"schedule.kind", "'linear'", "wsd, cosine, constant"}},
        BadSetting{"schedule.decay=0.99", {"schedule.warmup", "schedule.decay", "at most 1"}},
        BadSetting{"schedule.steps=10", {"train.steps", "1000", "schedule.steps", "10"}},
        BadSetting{"train.device=gpu", {"train.device", "'gpu'", "auto, cpu, cuda"}},
        BadSetting{"data.train=", {"data.train", "builtin"}}, BadSetting{"model.layers=-1", {"layers", "-1"}},
        BadSetting{"model.layer=2", {"layers"}}, BadSetting{"model.d_model=99999999999", {"d_model"}},
        BadSetting{"recipe.fprop.x.format=e3m0", {"e3m0"}},
        BadSetting{"recipe.dgrad.hadamrd=16", {"hadamrd", "dgrad.hadamard"}},
        BadSetting{"recipe.base=upf4", {"upf4", "ufp4"}}, BadSetting{"model.base=tny", {"tny", "tiny"}},
        BadSetting{"recipe.base=no/such.toml", {"no/such.toml"}}));

TEST(RunConfig, OverridesComeAfterTheBaseWhateverTheirOrder) {
  const RunConfig config = make_run_config(std::vector<Assignment>{{"recipe.dgrad.hadamard", {"0"}, ""},
                                                                   {"model.layers", {"3"}, ""},
                                                                   {"model.base", {"tiny"}, ""},
                                                                   {"recipe.base", {"ufp4"}, ""}});
  EXPECT_EQ(config.model.layers, 3);
  EXPECT_EQ(config.model.d_model, load_model_config("tiny").d_model);
  EXPECT_EQ(config.recipe[Gemm::kDgrad].hadamard(), 0);
  EXPECT_EQ(config.recipe[Gemm::kFprop].hadamard(), 16);
}

TEST(RunConfig, SettingsThatFollowOthersAreResolved) {
  const RunConfig config = make({"train.steps=77", "train.batch=6"});
  EXPECT_EQ(config.schedule.steps, 77);
  EXPECT_EQ(config.train.micro_batch, 6);
  EXPECT_GT(config.optimizer.lr, 0);
}

TEST(RunConfig, ItemsOfAnArrayMayHoldCommas) {
  std::vector<Assignment> list{{"model.base", {"tiny"}, "--model"}};
  for (const Assignment& entry : parse_toml("[data]\ntrain = [\"a,b.txt\"]\nval = \"c.txt,d.txt\"\n", "t"))
    list.push_back(entry);
  const RunConfig config = make_run_config(list);
  EXPECT_EQ(config.data.train, std::vector<std::string>{"a,b.txt"});
  EXPECT_EQ(config.data.val, (std::vector<std::string>{"c.txt", "d.txt"}));
  const RunConfig again = make_run_config(parse_toml(to_toml(config), "text"));
  EXPECT_EQ(again.data.train, config.data.train);
  EXPECT_FALSE(first_difference(config, again).has_value());
}

TEST(RunConfig, TomlReadsBackToTheSame) {
  const RunConfig config =
      make({"recipe.base=ufp4", "recipe.keep_bf16=layers.0.*,layers.1.*", "train.seed=9007199254740",
            "optimizer.lr=0.00123", "data.train=a b.txt,c\"d.jsonl", "recipe.name=1e5"});
  const RunConfig again = make_run_config(parse_toml(to_toml(config), "text"));
  EXPECT_FALSE(first_difference(config, again).has_value()) << first_difference(config, again)->key;
  EXPECT_EQ(again.data.train, (std::vector<std::string>{"a b.txt", "c\"d.jsonl"}));
  EXPECT_EQ(again.recipe.name, "1e5");
  EXPECT_EQ(to_toml(again), to_toml(config));
}

TEST(RunConfig, OnlyWhatChangesNoResultMayDiffer) {
  const RunConfig config = make({});
  EXPECT_FALSE(first_difference(config, make({"train.log_every=7", "train.threads=1", "train.keep_checkpoints=9"})));
  const auto lr = first_difference(config, make({"optimizer.lr=0.5"}));
  ASSERT_TRUE(lr);
  EXPECT_EQ(lr->key, "optimizer.lr");
  EXPECT_EQ(lr->expected, "0.5");
  const auto steps = first_difference(config, make({"train.steps=5"}));
  ASSERT_TRUE(steps);
  EXPECT_EQ(steps->key, "schedule.steps");
  EXPECT_FALSE(first_difference(make({"schedule.steps=40", "train.steps=20"}), make({"train.steps=40"})));
}

RunConfig train_config(std::vector<Assignment> assignments) {
  assignments.push_back({"model.base", {"tiny"}, "--model", false});
  return make_run_config(with_default_recipe(std::move(assignments)));
}

std::string described(std::vector<Assignment> assignments) {
  assignments = with_default_recipe(std::move(assignments));
  assignments.push_back({"model.base", {"tiny"}, "--model", false});
  return describe_recipe(assignments, make_run_config(assignments).recipe);
}

TEST(RunConfig, TrainingStartsFromUfp4UnlessABaseIsNamed) {
  EXPECT_EQ(train_config({}).recipe.name, "ufp4");
  const Recipe changed = train_config({parse_override("recipe.dgrad.hadamard=0", "--set")}).recipe;
  EXPECT_EQ(changed[Gemm::kDgrad].hadamard(), 0);
  EXPECT_EQ(entries(changed).size(), entries(load_recipe("ufp4")).size());
  EXPECT_EQ(describe_changes(changed, load_recipe("ufp4")), "ufp4 with dgrad.hadamard=0");
  EXPECT_EQ(train_config({parse_override("recipe.base=e2m1", "--set")}).recipe.name, "e2m1");
}

TEST(RunConfig, WhatARunWroteOfItsRecipeNeedsNoBase) {
  const RunConfig config = make({"recipe.keep_bf16=layers.0.*", "recipe.fprop.x.rounding=sr"});
  const RunConfig again = make_run_config(with_default_recipe(parse_toml(to_toml(config), "config.toml")));
  EXPECT_FALSE(first_difference(config, again).has_value()) << first_difference(config, again)->key;
}

TEST(RunConfig, AFileThatNamesARecipeGivesWayToAnother) {
  const auto keys = [](const std::vector<Assignment>& list) {
    std::string text;
    for (const Assignment& assignment : list) text += assignment.key + " ";
    return text;
  };
  const auto file = parse_toml(to_toml(make({"recipe.base=e2m1"})), "config.toml");
  EXPECT_EQ(keys(without_named(file, "recipe")).find("recipe."), std::string::npos);
  EXPECT_NE(keys(without_named(file, "recipe")).find("model.layers"), std::string::npos);
  EXPECT_EQ(keys(without_named(file, "model")).find("model."), std::string::npos);
  const auto changes = parse_toml("[recipe]\nfprop.hadamard = 16\n[model]\ncontext = 64\n", "changes.toml");
  EXPECT_EQ(keys(without_named(without_named(changes, "recipe"), "model")), keys(changes));
}

TEST(RunConfig, TheLogSaysWhichRecipeRuns) {
  EXPECT_EQ(described({}), "recipe ufp4");
  EXPECT_EQ(described({parse_override("recipe.dgrad.hadamard=0", "--set")}), "recipe ufp4 with dgrad.hadamard=0");
  EXPECT_EQ(described({parse_override("recipe.base=e2m1", "--set")}), "recipe e2m1");
  EXPECT_EQ(described(parse_recipe_choice("e2m1:*.hadamard=16", "--recipe").assignments), "recipe e2m1:*.hadamard=16");
}

// A hint that names no key would lead nowhere.
TEST(RunConfig, WhatOtherProgramsCallAKeyLeadsToOne) {
  for (const char* name : {"train.lr_scheduler_type", "batch_size", "max_grad_norm", "num_key_value_heads", "seq_len",
                           "intermediate_size", "rms_norm_eps", "save_total_limit", "eps", "warmup_ratio"}) {
    try {
      make({(std::string(name) + "=1").c_str()});
      FAIL() << name << " was accepted";
    } catch (const InputError& error) {
      const std::string message = error.what();
      const std::size_t begin = message.find("did you mean '");
      ASSERT_NE(begin, std::string::npos) << message;
      const std::string hint = message.substr(begin + 14, message.find('\'', begin + 14) - begin - 14);
      const std::vector<Assignment> all = entries(make({}));
      EXPECT_TRUE(std::any_of(all.begin(), all.end(), [&](const Assignment& a) { return a.key == hint; })) << hint;
    }
  }
}

}  // namespace
}  // namespace ufp4
