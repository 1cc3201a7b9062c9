#include "train/checkpoint.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <fstream>

#include "io/checkpoint_folders.h"
#include "io/checksum.h"
#include "io/temporary_folder.h"
#include "ufp4/error.h"

namespace ufp4 {
namespace {

namespace fs = std::filesystem;

NamedTensors tensors(const char* name, float value) {
  return {{name, at::arange(12, at::kFloat).reshape({3, 4}) + value},
          {std::string(name) + ".scalar", at::zeros({}) + value}};
}

RunState state_at(std::int64_t step) { return {step, step * 100, 1, 0, R"({"epoch":0,"index":7})", "123"}; }

void save(CheckpointStore& store, std::int64_t step) {
  store.save(state_at(step), "a = 1\n", tensors("w", static_cast<float>(step)), tensors("m", 0.5F));
}

void flip_byte(const fs::path& file) {
  std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
  const auto middle = static_cast<std::streamoff>(fs::file_size(file) / 2);
  stream.seekg(middle);
  const int byte = stream.get();
  stream.seekp(middle);
  stream.put(static_cast<char>(byte ^ 1));
}

struct Loaded {
  std::optional<RunState> state;
  float weight = 0;
  std::vector<std::string> warnings;
};

Loaded load(CheckpointStore& store) {
  Loaded loaded;
  const NamedTensors weights = tensors("w", -1);
  const NamedTensors moments = tensors("m", -1);
  loaded.state = store.load_newest(weights, moments, [&](const std::string& w) { loaded.warnings.push_back(w); });
  loaded.weight = weights[0].second[0][0].item<float>();
  return loaded;
}

TEST(Checkpoint, ComesBackAsItWasSaved) {
  const TemporaryFolder folder;
  CheckpointStore store(folder / "checkpoints", 3);
  EXPECT_FALSE(load(store).state);
  save(store, 10);
  const Loaded loaded = load(store);
  ASSERT_TRUE(loaded.state);
  EXPECT_EQ(loaded.state->step, 10);
  EXPECT_EQ(loaded.state->tokens, 1000);
  EXPECT_EQ(loaded.state->skipped, 1);
  EXPECT_EQ(loaded.state->data, state_at(10).data);
  EXPECT_EQ(loaded.weight, 10);
  EXPECT_TRUE(loaded.warnings.empty());
  EXPECT_EQ(store.path_of(10).filename(), "step-00000010");
}

TEST(Checkpoint, OnlyTheNewestStay) {
  const TemporaryFolder folder;
  CheckpointStore store(folder.path(), 2);
  for (const int step : {1, 2, 3, 4}) save(store, step);
  EXPECT_EQ(store.steps(), (std::vector<std::int64_t>{3, 4}));
  EXPECT_EQ(folder.entries(), 2);
}

class DamageTest : public testing::TestWithParam<const char*> {};

TEST_P(DamageTest, IsRefusedByNameAndTheLastGoodOneIsUsed) {
  const TemporaryFolder folder;
  CheckpointStore store(folder.path(), 3);
  save(store, 1);
  save(store, 2);
  flip_byte(store.path_of(2) / GetParam());
  EXPECT_THROW(io::verify_checkpoint(store.path_of(2)), InputError);
  const Loaded loaded = load(store);
  ASSERT_TRUE(loaded.state);
  EXPECT_EQ(loaded.state->step, 1);
  EXPECT_EQ(loaded.weight, 1);
  ASSERT_EQ(loaded.warnings.size(), 1U);
  const std::string manifest = "manifest.json";
  if (GetParam() != manifest) {
    EXPECT_NE(loaded.warnings[0].find(GetParam()), std::string::npos) << loaded.warnings[0];
    EXPECT_NE(loaded.warnings[0].find("xxh128"), std::string::npos) << loaded.warnings[0];
  }
  // Saving the same step again replaces it.
  save(store, 2);
  EXPECT_EQ(load(store).state->step, 2);
}

INSTANTIATE_TEST_SUITE_P(Files, DamageTest,
                         testing::Values("config.toml", "model.safetensors", "optimizer.safetensors", "state.json",
                                         "manifest.json"));

TEST(Checkpoint, EveryByteOfTheManifestIsChecked) {
  const TemporaryFolder folder;
  CheckpointStore store(folder.path(), 3);
  save(store, 1);
  const fs::path manifest = store.path_of(1) / "manifest.json";
  std::ifstream in(manifest);
  const std::string text(std::istreambuf_iterator<char>(in), {});
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == ' ' || text[i] == '\n') continue;  // means nothing to JSON
    std::string damaged = text;
    damaged[i] = static_cast<char>(damaged[i] ^ 1);
    std::ofstream(manifest) << damaged;
    EXPECT_THROW(io::verify_checkpoint(store.path_of(1)), InputError) << i;
  }
}

TEST(Checkpoint, CutAndMissingFilesAreRefused) {
  const TemporaryFolder folder;
  CheckpointStore store(folder.path(), 3);
  save(store, 1);
  fs::resize_file(store.path_of(1) / "model.safetensors", 20);
  EXPECT_THROW(load(store), InputError);  // none is whole
  fs::remove(store.path_of(1) / "model.safetensors");
  EXPECT_THROW(io::verify_checkpoint(store.path_of(1)), InputError);
}

// Copying or printing this many levels would need more stack than there is.
std::string deep_json() { return "{\"files\": " + std::string(200'000, '[') + std::string(200'000, ']') + "}"; }

TEST(Checkpoint, DeepNestingIsDamageLikeAnyOther) {
  const TemporaryFolder folder;
  CheckpointStore store(folder.path(), 3);
  save(store, 1);
  save(store, 2);
  std::ofstream(store.path_of(2) / "manifest.json") << deep_json();
  Loaded loaded = load(store);
  ASSERT_TRUE(loaded.state);
  EXPECT_EQ(loaded.state->step, 1);
  ASSERT_EQ(loaded.warnings.size(), 1U);
  EXPECT_NE(loaded.warnings[0].find("nested more than"), std::string::npos) << loaded.warnings[0];

  // A state with the checksum that the manifest tells.
  save(store, 2);
  const fs::path state = store.path_of(2) / "state.json";
  std::ofstream(state) << deep_json();
  Manifest manifest;
  for (const char* name : {"config.toml", "model.safetensors", "optimizer.safetensors", "state.json"}) {
    const fs::path file = store.path_of(2) / name;
    manifest[name] = {static_cast<std::int64_t>(fs::file_size(file)), io::checksum_of_file(file)};
  }
  std::ofstream(store.path_of(2) / "manifest.json") << manifest_text(manifest);
  io::verify_checkpoint(store.path_of(2));
  loaded = load(store);
  ASSERT_TRUE(loaded.state);
  EXPECT_EQ(loaded.state->step, 1);
  EXPECT_EQ(loaded.warnings.size(), 1U);
}

TEST(Checkpoint, RemainsOfAKilledSaveAreRemoved) {
  const TemporaryFolder folder;
  fs::create_directories(folder / ".step-00000009.new");
  CheckpointStore store(folder.path(), 3);
  store.remove_remains();
  EXPECT_FALSE(fs::exists(folder / ".step-00000009.new"));
  EXPECT_TRUE(store.steps().empty());
}

// The newest is damaged, and the run goes on from the one before.
TEST(Checkpoint, ADamagedOneTakesNoGoodOnesPlace) {
  for (const std::int64_t keep : {1, 2}) {
    const TemporaryFolder folder;
    {
      CheckpointStore store(folder.path(), 3);
      save(store, 10);
      save(store, 20);
      flip_byte(store.path_of(20) / "model.safetensors");
    }
    CheckpointStore store(folder.path(), keep);
    ASSERT_EQ(load(store).state->step, 10);
    save(store, 15);
    CheckpointStore next(folder.path(), keep);
    const Loaded loaded = load(next);
    ASSERT_TRUE(loaded.state) << keep;
    EXPECT_EQ(loaded.state->step, 15) << keep;
    EXPECT_EQ(fs::exists(store.path_of(10)), keep == 2);
    // Its place is taken again when the run comes by.
    save(next, 20);
    CheckpointStore last(folder.path(), keep);
    EXPECT_EQ(load(last).weight, 20);
  }
}

TEST(Checkpoint, WhatIsDamagedBeforeItIsReadCountsNeither) {
  const TemporaryFolder folder;
  {
    CheckpointStore store(folder.path(), 3);
    for (const int step : {5, 10, 15}) save(store, step);
    flip_byte(store.path_of(10) / "state.json");
  }
  CheckpointStore store(folder.path(), 3);
  ASSERT_EQ(load(store).state->step, 15);
  save(store, 20);
  // 10 is no third one beside 20 and 15: 5 is.
  EXPECT_EQ(store.steps(), (std::vector<std::int64_t>{5, 10, 15, 20}));
  save(store, 25);
  EXPECT_EQ(store.steps(), (std::vector<std::int64_t>{10, 15, 20, 25}));
}

TEST(Checkpoint, StrayNamesAreToldAndDoNotCount) {
  const TemporaryFolder folder;
  {
    CheckpointStore store(folder.path(), 2);
    save(store, 4);
    fs::copy(store.path_of(4), folder / "step-4", fs::copy_options::recursive);
    fs::copy(store.path_of(4), folder / "step-9", fs::copy_options::recursive);
  }
  CheckpointStore store(folder.path(), 2);
  const Loaded loaded = load(store);
  EXPECT_EQ(loaded.state->step, 4);
  ASSERT_EQ(loaded.warnings.size(), 2U);
  EXPECT_NE(loaded.warnings[0].find("step-4 is passed over"), std::string::npos) << loaded.warnings[0];
  EXPECT_NE(loaded.warnings[1].find("step-9 is passed over"), std::string::npos) << loaded.warnings[1];
  save(store, 8);
  save(store, 12);
  EXPECT_EQ(store.steps(), (std::vector<std::int64_t>{8, 12}));
  EXPECT_TRUE(fs::exists(folder / "step-9"));
}

TEST(Checkpoint, ARenamedOneIsRefused) {
  const TemporaryFolder folder;
  {
    CheckpointStore store(folder.path(), 3);
    save(store, 4);
    save(store, 8);
    fs::rename(store.path_of(8), store.path_of(99));
  }
  CheckpointStore store(folder.path(), 1);
  const Loaded loaded = load(store);
  EXPECT_EQ(loaded.state->step, 4);
  ASSERT_EQ(loaded.warnings.size(), 1U);
  EXPECT_NE(loaded.warnings[0].find("step-00000099 is of step 8"), std::string::npos) << loaded.warnings[0];
  save(store, 8);
  EXPECT_EQ(store.steps(), (std::vector<std::int64_t>{8, 99}));
}

TEST(Checkpoint, OneOfAnotherRunIsSetAsideNotDestroyed) {
  const TemporaryFolder folder;
  {
    CheckpointStore store(folder.path(), 3);
    save(store, 4);
    save(store, 8);
  }
  const auto only_four = [](const fs::path& checkpoint, const RunState& state) {
    if (state.step != 4) throw InputError(checkpoint.string() + " is of another run");
  };
  CheckpointStore store(folder.path(), 1, only_four);
  const Loaded loaded = load(store);
  EXPECT_EQ(loaded.state->step, 4);
  ASSERT_EQ(loaded.warnings.size(), 1U);
  EXPECT_NE(loaded.warnings[0].find("another run"), std::string::npos);
  save(store, 8);
  EXPECT_EQ(store.steps(), (std::vector<std::int64_t>{8}));
  io::verify_checkpoint(folder / "refused-step-00000008");
}

// Through a link, what is elsewhere would be written and removed.
TEST(Checkpoint, ALinkIsNoCheckpoint) {
  const TemporaryFolder folder;
  {
    CheckpointStore store(folder / "elsewhere", 3);
    save(store, 8);
  }
  CheckpointStore store(folder / "own", 1);
  save(store, 4);
  fs::create_directory_symlink(folder / "elsewhere" / "step-00000008", store.path_of(8));
  EXPECT_EQ(load(store).state->step, 4);
  save(store, 8);
  save(store, 12);
  EXPECT_EQ(store.steps(), (std::vector<std::int64_t>{12}));
  io::verify_checkpoint(folder / "elsewhere" / "step-00000008");
}

TEST(Checkpoint, OfAnotherModelIsRefused) {
  const TemporaryFolder folder;
  CheckpointStore store(folder.path(), 3);
  save(store, 1);
  EXPECT_THROW(load_tensors(store.path_of(1) / "model.safetensors", tensors("v", 0)), InputError);
  EXPECT_THROW(
      load_tensors(store.path_of(1) / "model.safetensors", {{"w", at::zeros({4, 3})}, {"w.scalar", at::zeros({})}}),
      InputError);
  EXPECT_THROW(load_tensors(store.path_of(1) / "model.safetensors", {{"w", at::zeros({3, 4})}}), InputError);
}

TEST(Checkpoint, AFailedSaveLeavesTheLastGoodOne) {
  const TemporaryFolder folder;
  CheckpointStore store(folder.path(), 3);
  save(store, 1);
  RunState bad = state_at(2);
  bad.data = "no json";  // fails after the tensors are written
  try {
    store.save(bad, "", tensors("w", 2), tensors("m", 2));
    FAIL();
  } catch (const RunError& error) {
    EXPECT_NE(std::string(error.what()).find("step-00000001"), std::string::npos) << error.what();
  }
  EXPECT_EQ(load(store).state->step, 1);
  EXPECT_EQ(folder.entries(), 1);
}

}  // namespace
}  // namespace ufp4
