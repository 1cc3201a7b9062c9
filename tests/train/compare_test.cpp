#include "train/compare.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "io/file.h"
#include "io/held_folder.h"
#include "io/temporary_folder.h"
#include "message_of.h"
#include "train/micro_run.h"
#include "ufp4/error.h"

namespace ufp4 {
namespace {

nlohmann::json without_rates(const std::filesystem::path& file) {
  nlohmann::json json = nlohmann::json::parse(io::read_text_file(file));
  for (auto& run : json["runs"]) run.erase("tokens_per_s");
  return json;
}

TEST(CompareRuns, InterruptedAndContinuedGivesTheSame) {
  const TemporaryFolder folder;
  const std::vector<Contestant> contestants = parse_contestants("bf16,ufp4,ufp4:*.dy.rounding=rtne");
  const std::vector<Assignment> settings = micro_settings("bf16", {"train.steps=10"});
  const Comparison whole = compare(contestants, 2, settings, folder / "whole", {}, never());
  ASSERT_TRUE(whole.finished);

  // The fourth run (bf16 of seed 2) stops in its middle.
  std::atomic<bool> stop{false};
  int started = 0;
  CompareEvents events;
  events.run = [&](const Contestant&, std::int64_t, std::size_t, std::size_t count) {
    ++started;
    EXPECT_EQ(count, 6U);
  };
  events.train.step = [&](const StepMetrics& m) { stop = started == 4 && m.step == 5; };
  const Comparison part = compare(contestants, 2, settings, folder / "parts", events, stop);
  EXPECT_FALSE(part.finished);
  EXPECT_EQ(part.runs.size(), 3U);
  EXPECT_FALSE(std::filesystem::exists(folder / "parts" / "compare.json"));

  std::int64_t steps = 0;
  events.train.step = [&](const StepMetrics&) { ++steps; };
  stop = false;
  EXPECT_TRUE(compare(contestants, 2, settings, folder / "parts", events, stop).finished);
  EXPECT_EQ(steps, 5 + 2 * 10);
  EXPECT_EQ(without_rates(folder / "whole" / "compare.json"), without_rates(folder / "parts" / "compare.json"));
}

TEST(CompareRuns, TheFileIsTheContract) {
  const TemporaryFolder folder;
  compare(parse_contestants("bf16,ufp4"), 1, micro_settings("bf16"), folder.path(), {}, never());
  const auto json = nlohmann::ordered_json::parse(io::read_text_file(folder / "compare.json"));
  const auto keys = [](const nlohmann::ordered_json& object) {
    std::vector<std::string> list;
    for (const auto& [key, value] : object.items()) list.push_back(key);
    return list;
  };
  EXPECT_EQ(keys(json), (std::vector<std::string>{"runs", "summary"}));
  ASSERT_EQ(json["runs"].size(), 2U);
  EXPECT_EQ(keys(json["runs"][0]),
            (std::vector<std::string>{"recipe", "seed", "steps", "tokens", "train_loss", "val_loss", "tokens_per_s"}));
  ASSERT_EQ(json["summary"].size(), 2U);
  EXPECT_EQ(keys(json["summary"][0]),
            (std::vector<std::string>{"recipe", "val_loss_mean", "val_loss_sem", "degradation_percent_mean",
                                      "degradation_percent_sem"}));
  EXPECT_TRUE(json["summary"][1]["val_loss_sem"].is_null());
  EXPECT_TRUE(json["summary"][1]["degradation_percent_sem"].is_null());
  EXPECT_TRUE(json["summary"][1]["degradation_percent_mean"].is_number());
  EXPECT_EQ(json["summary"][0]["degradation_percent_mean"], 0.0);
  EXPECT_TRUE(std::filesystem::exists(folder / "runs" / "ufp4-seed1" / "metrics.jsonl"));
}

TEST(CompareRuns, AFolderThatCannotBeUsedIsSaidBeforeTheFirstRun) {
  const TemporaryFolder folder;
  const auto refused = [&](const std::filesystem::path& out, const char* recipes, const char* part) {
    const auto contestants = parse_contestants(recipes);
    const std::string message = message_of<InputError>(
        [&] { compare(contestants, 1, micro_settings("bf16", {"train.steps=1"}), out, {}, never()); });
    EXPECT_NE(message.find(part), std::string::npos) << message;
  };
  refused("", "bf16", "empty");
  refused(folder.write("file", "x"), "bf16", "is a file");
  refused(folder / "all", ("bf16,bf16:name=" + std::string(300, 'x')).c_str(), "too long");
  EXPECT_FALSE(std::filesystem::exists(folder / "all"));
  std::filesystem::create_directories(folder / "links" / "elsewhere");
  std::filesystem::create_symlink("elsewhere", folder / "links" / "runs");
  refused(folder / "links", "bf16", "runs is a symbolic link");
  std::filesystem::create_directories(folder / "held");
  const io::HeldFolder held(folder / "held");
  refused(folder / "held", "bf16", "is being written by process");
}

TEST(CompareRuns, RecipesOfASeedShareWeightsAndData) {
  const TemporaryFolder folder;
  compare(parse_contestants("bf16,bf16:name=again"), 2, micro_settings("bf16"), folder.path(), {}, never());
  const auto first_loss = [&](const char* run) {
    return read_metrics(folder / "runs" / run / "metrics.jsonl").steps.front().loss;
  };
  EXPECT_EQ(first_loss("bf16-seed1"), first_loss("bf16-name=again-seed1"));
  EXPECT_NE(first_loss("bf16-seed1"), first_loss("bf16-seed2"));
}

}  // namespace
}  // namespace ufp4
