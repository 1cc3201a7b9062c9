#include "train/trainer.h"

#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <utility>

#include "io/file.h"
#include "io/temporary_folder.h"
#include "train/micro_run.h"
#include "train/run_folder.h"
#include "ufp4/error.h"
#include "ufp4/format.h"

namespace ufp4 {
namespace {

namespace fs = std::filesystem;

// What must not depend on the clock: every line of the metrics but rates and memory.
std::string losses(const fs::path& run) {
  std::string text;
  const MetricsHistory history = read_metrics(run / "metrics.jsonl");
  for (const StepMetrics& m : history.steps) {
    text += nlohmann::json{m.step, m.loss, m.grad_norm, m.lr, m.tokens, m.skipped}.dump() + "\n";
  }
  for (const Validation& v : history.validations) text += nlohmann::json{v.step, v.loss}.dump() + "\n";
  return text;
}

std::string file_of(const fs::path& run, const char* step, const char* file) {
  const io::MappedFile map(run / "checkpoints" / step / file);
  return std::string(map.text());
}

// Trains `steps` and stops there as a signal would.
TrainResult train_until(const RunConfig& config, const fs::path& folder, std::int64_t steps) {
  std::atomic<bool> stop{false};
  TrainEvents events;
  events.step = [&](const StepMetrics& m) { stop = m.step == steps; };
  return train(config, folder, events, stop);
}

class ResumeTest : public testing::TestWithParam<std::vector<const char*>> {};

TEST_P(ResumeTest, HasTheBitsOfARunThatNeverStopped) {
  const TemporaryFolder folder;
  std::vector<Assignment> settings = micro_settings("ufp4", {"train.steps=12"});
  for (const char* text : GetParam()) settings.push_back(parse_override(text, "test"));
  const RunConfig config = make_run_config(settings);

  EXPECT_TRUE(train(config, folder / "whole", {}, never()).finished);
  const TrainResult part = train_until(config, folder / "parts", 6);
  EXPECT_FALSE(part.finished);
  EXPECT_EQ(part.step, 6);
  EXPECT_TRUE(train(config, folder / "parts", {}, never()).finished);

  EXPECT_EQ(losses(folder / "whole"), losses(folder / "parts"));
  for (const char* file : {"model.safetensors", "optimizer.safetensors", "state.json", "config.toml"}) {
    EXPECT_TRUE(file_of(folder / "whole", "step-00000012", file) == file_of(folder / "parts", "step-00000012", file))
        << file;
  }
}

INSTANTIATE_TEST_SUITE_P(Settings, ResumeTest,
                         testing::Values(std::vector<const char*>{}, std::vector<const char*>{"train.micro_batch=1"},
                                         std::vector<const char*>{"recipe.*.*.rounding=sr"},
                                         std::vector<const char*>{"recipe.base=bf16", "schedule.kind=cosine"},
                                         std::vector<const char*>{"recipe.base=e2m1", "model.kv_heads=1"},
                                         std::vector<const char*>{"recipe.base=ufp4_p2", "train.micro_batch=1"}));

TEST(Train, FortyStepsAreTwentyAndTwentyMore) {
  const TemporaryFolder folder;
  train(micro_run("ufp4", {"train.steps=40", "train.checkpoint_every=20"}), folder / "whole", {}, never());
  const auto part = {"schedule.steps=40", "train.steps=20", "train.checkpoint_every=20"};
  train(micro_run("ufp4", part), folder / "parts", {}, never());
  train(micro_run("ufp4", {"train.steps=40", "train.checkpoint_every=20"}), folder / "parts", {}, never());
  EXPECT_EQ(losses(folder / "whole"), losses(folder / "parts"));
  EXPECT_TRUE(file_of(folder / "whole", "step-00000040", "model.safetensors") ==
              file_of(folder / "parts", "step-00000040", "model.safetensors"));
}

TEST(Train, TheStashChangesNoBit) {
  for (const char* recipe : {"ufp4", "ufp4_p2"}) {
    const TemporaryFolder folder;
    train(micro_run(recipe), folder / "packed", {}, never());
    train(micro_run(recipe, {"train.stash=none"}), folder / "none", {}, never());
    EXPECT_EQ(losses(folder / "packed"), losses(folder / "none")) << recipe;
    for (const char* file : {"model.safetensors", "optimizer.safetensors"}) {
      EXPECT_TRUE(file_of(folder / "packed", "step-00000008", file) == file_of(folder / "none", "step-00000008", file));
    }
  }
}

// What operands are expected to hold is learnt from training alone.
TEST(Train, ValidationLeavesNoTrace) {
  const TemporaryFolder folder;
  train(micro_run("ufp4_p2", {"train.eval_every=0"}), folder / "rarely", {}, never());
  train(micro_run("ufp4_p2", {"train.eval_every=1"}), folder / "often", {}, never());
  EXPECT_TRUE(file_of(folder / "rarely", "step-00000008", "model.safetensors") ==
              file_of(folder / "often", "step-00000008", "model.safetensors"));
  EXPECT_TRUE(file_of(folder / "rarely", "step-00000008", "optimizer.safetensors") ==
              file_of(folder / "often", "step-00000008", "optimizer.safetensors"));
}

TEST(Train, RecomputationChangesNoBit) {
  for (const char* recipe : {"bf16", "ufp4", "ufp4_p2", "ufp4_i4"}) {
    for (const char* micro_batch : {"train.micro_batch=4", "train.micro_batch=2"}) {
      const TemporaryFolder folder;
      train(micro_run(recipe, {micro_batch}), folder / "kept", {}, never());
      train(micro_run(recipe, {micro_batch, "train.recompute=ffn", "train.analyze_every=2"}), folder / "anew", {},
            never());
      train(micro_run(recipe, {micro_batch, "train.recompute=ffn", "train.recompute_layers=1"}), folder / "one-layer",
            {}, never());
      for (const char* other : {"anew", "one-layer"}) {
        EXPECT_EQ(losses(folder / "kept"), losses(folder / other)) << recipe;
        for (const char* file : {"model.safetensors", "optimizer.safetensors"}) {
          EXPECT_TRUE(file_of(folder / "kept", "step-00000008", file) == file_of(folder / other, "step-00000008", file))
              << recipe;
        }
      }
    }
  }
}

TEST(Train, EveryFormatTrainsAndItsStashChangesNoBit) {
  for (const BlockFormat& format : formats()) {
    if (format.rule == ScaleRule::kAmax) continue;
    const TemporaryFolder folder;
    const std::string setting = "recipe.*.*.format=" + std::string(format.name);
    train(micro_run("ufp4", {setting.c_str()}), folder / "packed", {}, never());
    train(micro_run("ufp4", {setting.c_str(), "train.stash=none"}), folder / "none", {}, never());
    EXPECT_EQ(losses(folder / "packed"), losses(folder / "none")) << format.name;
    const MetricsHistory history = read_metrics(folder / "packed" / "metrics.jsonl");
    EXPECT_LT(history.steps.back().loss, history.steps.front().loss) << format.name;
  }
}

// Watching the operands, with and without a stash, in micro-batches, changes neither losses nor weights.
TEST(Train, TheAnalysisChangesNoBit) {
  const TemporaryFolder folder;
  train(micro_run("ufp4", {"train.micro_batch=2"}), folder / "plain", {}, never());
  for (const char* stash : {"train.stash=packed", "train.stash=none"}) {
    const fs::path run = folder / stash;
    train(micro_run("ufp4", {"train.micro_batch=2", stash, "train.analyze_every=3", "train.analyze_tokens=40",
                             "train.analyze_formats=e2m1,nvfp4"}),
          run, {}, never());
    EXPECT_EQ(losses(folder / "plain"), losses(run));
    EXPECT_TRUE(file_of(folder / "plain", "step-00000008", "model.safetensors") ==
                file_of(run, "step-00000008", "model.safetensors"));
  }
}

TEST(Train, TheAnalysisHasTheSixOperandsOfEveryLinear) {
  const TemporaryFolder folder;
  const RunConfig config = micro_run("e2m1", {"train.analyze_every=4", "train.analyze_tokens=64",
                                              "train.analyze_formats=e1m2", "recipe.keep_bf16=layers.0.linear_qkv"});
  train_until(config, folder / "run", 6);
  train(config, folder / "run", {}, never());  // continued: no line twice
  std::map<std::string, int> seen;
  std::istringstream lines(io::read_text_file(folder / "run" / "analysis.jsonl"));
  std::string text;
  std::getline(lines, text);
  EXPECT_EQ(nlohmann::json::parse(text)["formats"].size(), 2u);
  while (std::getline(lines, text)) {
    const auto line = nlohmann::json::parse(text);
    if (line.contains("formats")) continue;
    ++seen[line["linear"].get<std::string>() + "/" + line["gemm"].get<std::string>() + "." +
           line["operand"].get<std::string>()];
    const bool kept = line["linear"] == "layers.0.linear_qkv";
    EXPECT_EQ(line["schemes"].size(), kept ? 2u : 3u) << text;
    EXPECT_EQ(line["schemes"][0].value("recipe", false), !kept);
    if (!kept) {
      EXPECT_EQ(line["schemes"][0]["hadamard"], line["gemm"] == "wgrad" ? 16 : 0);
      EXPECT_EQ(line["schemes"][0]["rounding"], line["operand"] == "dy" ? "sr" : "rtne");
    }
    // Blocks run along the contraction axis: tokens for wgrad, of which 64 were asked for.
    if (line["operand"] != "w") {
      EXPECT_EQ(line["shape"][line["gemm"] == "wgrad" ? 1 : 0], 64) << text;
    }
    for (const auto& scheme : line["schemes"]) {
      EXPECT_GT(scheme["sqnr_db"], 10) << text;
      EXPECT_NEAR(scheme["alpha"], 1, 0.2) << text;
    }
  }
  EXPECT_EQ(seen.size(), 2u * 4u * 6u);
  for (const auto& [operand, count] : seen) EXPECT_EQ(count, 2) << operand;  // steps 4 and 8
}

TEST(Train, WritesWhatDescribesTheRun) {
  const TemporaryFolder folder;
  const TrainResult result = train(micro_run("ufp4"), folder / "run", {}, never());
  EXPECT_TRUE(result.finished);
  EXPECT_EQ(result.tokens, 8 * 4 * 32);
  ASSERT_TRUE(result.val_loss);
  const auto run = nlohmann::json::parse(io::read_text_file(folder / "run" / "run.json"));
  EXPECT_EQ(run.at("recipe").at("name"), "ufp4");
  EXPECT_EQ(run.at("recipe").at("fprop.hadamard"), 16);
  EXPECT_EQ(run.at("model").at("name"), "micro");
  EXPECT_GT(run.at("model").at("parameters"), 0);
  EXPECT_EQ(run.at("device"), "cpu");
  EXPECT_TRUE(run.at("gemm").get<std::string>().starts_with("emulated"));
  EXPECT_GT(run.at("entropy_rate"), 0.0);
  EXPECT_EQ(run.at("config").at("train.steps"), 8);
  EXPECT_EQ(run.at("config").at("data.train"), nlohmann::json{"builtin"});
  for (const char* key : {"ufp4_version", "torch_version", "backend", "seed"}) EXPECT_TRUE(run.contains(key)) << key;
  const MetricsHistory history = read_metrics(folder / "run" / "metrics.jsonl");
  EXPECT_EQ(history.steps.size(), 8U);
  EXPECT_EQ(history.validations.size(), 2U);
  EXPECT_GT(history.steps.back().memory_bytes, 0);
}

TEST(Train, TheLossFallsUnderEveryRecipe) {
  for (const char* recipe : {"bf16", "e2m1", "ufp4", "ufp4_p2", "ufp4_i4", "nvfp4", "mxfp4"}) {
    const TemporaryFolder folder;
    train(micro_run(recipe, {"train.steps=60", "train.eval_every=0", "train.checkpoint_every=0"}), folder / "run", {},
          never());
    const MetricsHistory history = read_metrics(folder / "run" / "metrics.jsonl");
    EXPECT_LT(*final_train_loss(history.steps, 60), 0.8 * history.steps.front().loss) << recipe;
  }
}

TEST(Train, ARunThatIsDoneReturnsAtOnce) {
  const TemporaryFolder folder;
  const TrainResult first = train(micro_run("bf16"), folder / "run", {}, never());
  TrainEvents events;
  events.step = [](const StepMetrics&) { FAIL() << "trained again"; };
  const TrainResult again = train(micro_run("bf16"), folder / "run", events, never());
  EXPECT_TRUE(again.finished);
  EXPECT_EQ(again.train_loss, first.train_loss);
  EXPECT_EQ(again.val_loss, first.val_loss);
}

void expect_refused(const RunConfig& config, const fs::path& folder, std::initializer_list<const char*> parts) {
  try {
    train(config, folder, {}, never());
    FAIL() << "accepted";
  } catch (const InputError& error) {
    for (const char* part : parts) EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
  }
}

TEST(Train, AFolderOfSomethingElseIsRefused) {
  const TemporaryFolder folder;
  train(micro_run("ufp4"), folder / "run", {}, never());
  expect_refused(micro_run("ufp4", {"optimizer.lr=0.25"}), folder / "run", {"optimizer.lr", "0.25"});
  expect_refused(micro_run("e2m1"), folder / "run", {"recipe.name", "ufp4", "e2m1"});
  expect_refused(micro_run("ufp4", {"train.steps=9"}), folder / "run", {"schedule.steps", "8", "9", "train.steps"});
  fs::create_directory(folder / "photos");
  folder.write("photos/holiday.jpg", "x");
  expect_refused(micro_run("ufp4"), folder / "photos", {"photos", "config.toml"});
  expect_refused(micro_run("ufp4"), folder.write("file", "x"), {"is a file"});
}

TEST(Train, WhatDoesNotFitIsRefusedBeforeItIsTaken) {
  const TemporaryFolder folder;
  expect_refused(micro_run("bf16", {"model.d_model=65536", "model.layers=200", "model.heads=512", "model.ffn=65536"}),
                 folder / "run", {"GiB", "parameters", "model.d_model"});
  expect_refused(micro_run("bf16", {"train.batch=1000000"}), folder / "run", {"GiB", "train.micro_batch"});
  expect_refused(micro_run("bf16", {"model.vocab_size=100"}), folder / "run", {"model.vocab_size", "100"});
  expect_refused(micro_run("bf16", {"data.train=none.txt"}), folder / "run", {"none.txt"});
  EXPECT_FALSE(fs::exists(folder / "run"));
}

TEST(Train, ALossThatIsNotFiniteEndsTheRun) {
  for (const char* recipe : {"bf16", "ufp4_p2"}) {
    const TemporaryFolder folder;
    const RunConfig config =
        micro_run(recipe, {"optimizer.lr=10", "optimizer.weight_decay=10", "optimizer.clip=0", "schedule.warmup=0",
                           "train.steps=200", "train.max_skipped=3", "train.eval_every=0"});
    std::vector<std::string> warnings;
    TrainEvents events;
    events.warning = [&](const std::string& message) { warnings.push_back(message); };
    try {
      train(config, folder / "run", events, never());
      FAIL() << recipe << ": a learning rate of 10 did not diverge";
    } catch (const RunError& error) {
      EXPECT_NE(std::string(error.what()).find("optimizer.lr"), std::string::npos) << error.what();
    }
    EXPECT_EQ(warnings.size(), 3U) << recipe;
    const MetricsHistory history = read_metrics(folder / "run" / "metrics.jsonl");
    EXPECT_TRUE(history.steps.back().skipped) << recipe;
    // Operands that grow so fast leave what was expected of them, and that is counted.
    std::int64_t requantized = 0;
    for (const StepMetrics& step : history.steps) requantized += step.requantized;
    EXPECT_EQ(requantized > 0, std::string_view(recipe) == "ufp4_p2") << recipe;
  }
}

TEST(Train, ADamagedCheckpointIsPassedOver) {
  const TemporaryFolder folder;
  const RunConfig config = micro_run("ufp4", {"train.steps=12"});
  train(config, folder / "whole", {}, never());
  train_until(config, folder / "run", 8);
  fs::resize_file(folder / "run" / "checkpoints" / "step-00000008" / "model.safetensors", 100);
  std::vector<std::string> warnings;
  TrainEvents events;
  events.warning = [&](const std::string& message) { warnings.push_back(message); };
  EXPECT_TRUE(train(config, folder / "run", events, never()).finished);
  ASSERT_EQ(warnings.size(), 1U);
  EXPECT_NE(warnings[0].find("step-00000008/model.safetensors"), std::string::npos) << warnings[0];
  EXPECT_EQ(losses(folder / "whole"), losses(folder / "run"));
}

// Told of a run's warnings; the run itself, to its end.
std::vector<std::string> warnings_of(const RunConfig& config, const fs::path& folder) {
  std::vector<std::string> warnings;
  TrainEvents events;
  events.warning = [&](const std::string& message) { warnings.push_back(message); };
  EXPECT_TRUE(train(config, folder, events, never()).finished);
  return warnings;
}

TEST(Train, EveryStateThatACrashCanLeaveIsContinued) {
  const TemporaryFolder folder;
  const RunConfig config = micro_run("bf16", {"train.steps=4", "train.threads=1"});
  train(config, folder / "whole", {}, never());
  const std::string run_json = io::read_text_file(folder / "whole" / "run.json");
  const std::string settings = io::read_text_file(folder / "whole" / "config.toml");
  const std::vector<std::map<std::string, std::string>> states{
      {},
      {{".lock", ""}},
      {{".lock", "{\"pid\":1}\n"}, {".ufp4-0011223344556677.tmp", "half a con"}},
      {{".ufp4-17-3.tmp", ""}, {"run.json", run_json}},
      {{"run.json", run_json}, {"train.log", "12:00:00 info\n"}},
      {{"config.toml", settings}},
      {{"config.toml", settings}, {"run.json", ""}, {"metrics.jsonl", "{\"step\": 1, \"lo"}},
      {{"config.toml", settings}, {"run.json", run_json}, {"result.json", "{"}},
  };
  for (std::size_t i = 0; i < states.size(); ++i) {
    const fs::path run = folder / ("state" + std::to_string(i));
    fs::create_directory(run);
    for (const auto& [name, text] : states[i]) folder.write(run.filename().string() + "/" + name, text);
    EXPECT_TRUE(train(config, run, {}, never()).finished) << i;
    EXPECT_EQ(losses(folder / "whole"), losses(run)) << i;
    for (const auto& entry : fs::directory_iterator(run)) {
      EXPECT_FALSE(entry.path().filename().string().starts_with(".")) << entry.path();
    }
  }
}

TEST(Train, WhatIsLeftInARunThatIsDoneIsRemoved) {
  const TemporaryFolder folder;
  const RunConfig config = micro_run("bf16", {"train.steps=1", "train.threads=1"});
  train(config, folder / "run", {}, never());
  folder.write("run/.lock", "");
  folder.write("run/.ufp4-01.tmp", "half");
  train(config, folder / "run", {}, never());
  EXPECT_FALSE(fs::exists(folder / "run" / ".lock"));
  EXPECT_FALSE(fs::exists(folder / "run" / ".ufp4-01.tmp"));
}

TEST(Train, NothingIsWrittenThroughALink) {
  const TemporaryFolder folder;
  const RunConfig config = micro_run("ufp4", {"train.analyze_every=4", "train.analyze_tokens=16"});
  for (const char* name : {"config.toml", "run.json", "metrics.jsonl", "analysis.jsonl", "result.json", "train.log",
                           ".lock", "checkpoints"}) {
    const fs::path run = folder / (std::string("run-") + name);
    fs::create_directory(run);
    const fs::path victim = folder.write(std::string("victim-") + name, "mine");
    fs::create_symlink(victim, run / name);
    expect_refused(config, run, {name, "is a symbolic link"});
    EXPECT_EQ(io::read_text_file(victim), "mine") << name;
    fs::remove(run / name);
    fs::create_symlink(folder / "nothing", run / name);
    expect_refused(config, run, {name, "is a symbolic link"});
    EXPECT_FALSE(fs::exists(folder / "nothing")) << name;
  }
}

TEST(Train, OneProcessAtATime) {
  const TemporaryFolder folder;
  const RunConfig config = micro_run("ufp4", {"train.threads=1"});
  TrainEvents events;
  bool tried = false;
  events.step = [&](const StepMetrics&) {
    if (std::exchange(tried, true)) return;
    expect_refused(config, folder / "run", {"is being written by process", "since"});
  };
  EXPECT_TRUE(train(config, folder / "run", events, never()).finished);
  EXPECT_TRUE(tried);
}

TEST(Train, TheSameTextMayHaveAnotherName) {
  const TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 400; ++i) text += "line " + std::to_string(i * i) + " of the text\n";
  const auto config_of = [&](const char* name, const std::string& content, const char* steps) {
    const std::string data = "data.train=" + folder.write(name, content).string();
    return micro_run("ufp4", {"train.threads=1", data.c_str(), "schedule.steps=8", steps});
  };
  train(config_of("a.txt", text, "train.steps=8"), folder / "whole", {}, never());
  train(config_of("a.txt", text, "train.steps=4"), folder / "run", {}, never());
  expect_refused(config_of("b.txt", text + "more\n", "train.steps=8"), folder / "run", {"data.train", "b.txt"});
  EXPECT_TRUE(train(config_of("moved.txt", text, "train.steps=8"), folder / "run", {}, never()).finished);
  EXPECT_EQ(losses(folder / "whole"), losses(folder / "run"));
  // The same name with another text is another run too.
  fs::remove(folder / "whole" / "result.json");
  expect_refused(config_of("a.txt", text + "more\n", "train.steps=8"), folder / "whole", {"other data", "fingerprint"});
}

TEST(Train, ACheckpointOfAnotherRunIsPassedOver) {
  const TemporaryFolder folder;
  const RunConfig config = micro_run("ufp4", {"train.threads=1", "train.steps=12"});
  train(config, folder / "whole", {}, never());
  const auto step8 = [](const fs::path& run) { return run / "checkpoints" / "step-00000008"; };
  for (const char* setting : {"train.seed=7", "recipe.base=e2m1", "optimizer.lr=0.01"}) {
    const fs::path run = folder / setting;
    const fs::path other = folder / (std::string("other-") + setting);
    train_until(config, run, 4);
    train_until(micro_run("ufp4", {"train.threads=1", "train.steps=12", setting}), other, 8);
    fs::copy(step8(other), step8(run), fs::copy_options::recursive);
    const std::vector<std::string> warnings = warnings_of(config, run);
    ASSERT_EQ(warnings.size(), 1U) << setting;
    EXPECT_NE(warnings[0].find("step-00000008 is of another run"), std::string::npos) << warnings[0];
    EXPECT_EQ(losses(folder / "whole"), losses(run)) << setting;
  }
}

TEST(Train, LostMetricsAreTold) {
  const TemporaryFolder folder;
  const RunConfig config = micro_run("ufp4", {"train.threads=1", "train.steps=12"});
  train_until(config, folder / "gone", 8);
  fs::remove(folder / "gone" / "metrics.jsonl");
  std::vector<std::string> warnings = warnings_of(config, folder / "gone");
  ASSERT_EQ(warnings.size(), 1U);
  EXPECT_NE(warnings[0].find("metrics.jsonl is gone"), std::string::npos) << warnings[0];
  EXPECT_EQ(read_metrics(folder / "gone" / "metrics.jsonl").steps.size(), 4U);

  train_until(config, folder / "damaged", 8);
  std::string text = io::read_text_file(folder / "damaged" / "metrics.jsonl");
  text.replace(text.find("\"loss\""), 6, "\"lo\xFFs\"");  // no UTF-8
  text.replace(text.rfind("\"loss\""), 6, "\"lass\"");    // JSON, and no line of metrics
  io::atomic_write_file(folder / "damaged" / "metrics.jsonl", text);
  warnings = warnings_of(config, folder / "damaged");
  ASSERT_EQ(warnings.size(), 1U);
  EXPECT_NE(warnings[0].find("lines of 6 of the 8 steps"), std::string::npos) << warnings[0];
}

TEST(Train, ADamagedResultIsMadeAnew) {
  const TemporaryFolder folder;
  const TrainResult first = train(micro_run("ufp4", {"train.threads=1"}), folder / "run", {}, never());
  for (const char* damage : {"", "{\"steps\": 8}", "\xFF", "null"}) {
    folder.write("run/result.json", damage);
    const std::vector<std::string> warnings = warnings_of(micro_run("ufp4", {"train.threads=1"}), folder / "run");
    ASSERT_EQ(warnings.size(), 1U) << damage;
    EXPECT_NE(warnings[0].find("result.json is damaged"), std::string::npos) << warnings[0];
    EXPECT_EQ(read_result(folder / "run", {})->train_loss, first.train_loss) << damage;
  }
}

TEST(Train, AFolderThatCannotBeUsedIsSaidBeforeAnythingChanges) {
  const TemporaryFolder folder;
  const RunConfig config = micro_run("ufp4", {"train.threads=1"});
  expect_refused(config, "", {"empty", "--out"});
  expect_refused(config, folder / std::string(300, 'x'), {"too long"});
  expect_refused(config, folder.write("file", "x") / "run", {"file"});
  train_until(config, folder / "run", 4);
  const std::string settings = io::read_text_file(folder / "run" / "config.toml");
  folder.write("run/config.toml", "");
  expect_refused(config, folder / "run", {"run/config.toml", "checkpoint has a copy"});
  folder.write("run/config.toml", settings);
  fs::remove_all(folder / "run" / "checkpoints");
  folder.write("run/checkpoints", "x");
  expect_refused(config, folder / "run", {"run/checkpoints is a file", "expected a folder"});
  EXPECT_FALSE(fs::exists(folder / "run" / ".lock"));
}

TEST(Train, ALongerRunIsToldHowToGoOn) {
  const TemporaryFolder folder;
  train(micro_run("ufp4", {"train.steps=4"}), folder / "run", {}, never());
  expect_refused(micro_run("ufp4", {"train.steps=8"}), folder / "run",
                 {"schedule.steps", "ends with step 4", "choose another folder"});
  expect_refused(micro_run("ufp4", {"train.steps=2"}), folder / "run", {"--set schedule.steps=4"});
}

TEST(Train, CutBlocksOfWgradAreWarnedOf) {
  const TemporaryFolder folder;
  const auto cut = [&](std::initializer_list<const char*> settings) {
    static int number = 0;
    const std::vector<std::string> warnings =
        warnings_of(micro_run("ufp4", settings), folder / ("run" + std::to_string(++number)));
    for (const std::string& warning : warnings) {
      EXPECT_NE(warning.find("24 tokens, no multiple of 16"), std::string::npos) << warning;
    }
    return warnings.size();
  };
  EXPECT_EQ(cut({"train.threads=1", "model.context=24", "train.micro_batch=1", "train.steps=1"}), 1U);
  EXPECT_EQ(cut({"train.threads=1", "model.context=24", "train.micro_batch=2", "train.steps=1"}), 0U);
  EXPECT_EQ(cut({"train.threads=1", "model.context=24", "train.batch=1", "train.steps=1"}), 0U);
  EXPECT_EQ(cut({"train.threads=1", "model.context=24", "train.micro_batch=1", "train.steps=1", "recipe.base=bf16"}),
            0U);
}

}  // namespace
}  // namespace ufp4
