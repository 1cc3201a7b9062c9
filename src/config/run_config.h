// Everything that decides a training run, as one flat list of typed keys: model.*, recipe.*, data.*, optimizer.*,
// schedule.*, train.*. A TOML file, the program's options and --set all end in assignments to these keys.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "config/key.h"
#include "config/model_config.h"
#include "config/recipes.h"
#include "config/toml_file.h"

namespace ufp4 {

enum class ScheduleKind : std::uint8_t { kWsd, kCosine, kConstant };
enum class DeviceKind : std::uint8_t { kAuto, kCpu, kCuda };
enum class StashKind : std::uint8_t { kPacked, kNone };
enum class AttentionKind : std::uint8_t { kReproducible, kFast };
enum class Replay : std::uint8_t { kOn, kOff };
enum class Producers : std::uint8_t { kFused, kSeparate };
enum class GemmSetting : std::uint8_t { kAuto, kEmulated };
enum class Recompute : std::uint8_t { kNone, kFfn };

template <>
struct Names<ScheduleKind> {
  static constexpr std::array<std::string_view, 3> list{"wsd", "cosine", "constant"};
};
template <>
struct Names<DeviceKind> {
  static constexpr std::array<std::string_view, 3> list{"auto", "cpu", "cuda"};
};
template <>
struct Names<StashKind> {
  static constexpr std::array<std::string_view, 2> list{"packed", "none"};
};
template <>
struct Names<AttentionKind> {
  static constexpr std::array<std::string_view, 2> list{"reproducible", "fast"};
};
template <>
struct Names<Replay> {
  static constexpr std::array<std::string_view, 2> list{"on", "off"};
};
template <>
struct Names<Producers> {
  static constexpr std::array<std::string_view, 2> list{"fused", "separate"};
};
template <>
struct Names<GemmSetting> {
  static constexpr std::array<std::string_view, 2> list{"auto", "emulated"};
};
template <>
struct Names<Recompute> {
  static constexpr std::array<std::string_view, 2> list{"none", "ffn"};
};

struct DataSettings {
  std::vector<std::string> train{"builtin"};
  std::vector<std::string> weights;
  std::vector<std::string> val;
  std::string format = "auto";
  std::int64_t vocab_size = 0;
  std::int64_t separator = -1;
  double val_fraction = 0.01;
  std::int64_t val_tokens = 32768;
};

struct OptimizerSettings {
  double lr = 0;  // 0: default_learning_rate()
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0.1;
  double clip = 1.0;  // 0: none
};

struct ScheduleSettings {
  ScheduleKind kind = ScheduleKind::kWsd;
  std::int64_t steps = 0;  // 0: train.steps
  double warmup = 0.05;
  double decay = 0.2;
  double final = 0.0;
};

struct TrainSettings {
  std::int64_t steps = 1000;
  std::int64_t batch = 8;
  std::int64_t micro_batch = 0;  // 0: train.batch
  std::int64_t seed = 1;
  std::string init;
  DeviceKind device = DeviceKind::kAuto;
  StashKind stash = StashKind::kPacked;
  AttentionKind attention = AttentionKind::kReproducible;
  Replay graph = Replay::kOn;
  Producers producers = Producers::kFused;
  GemmSetting gemm = GemmSetting::kAuto;
  std::int64_t offload_layers = 0;
  Recompute recompute = Recompute::kNone;
  std::int64_t recompute_layers = 0;
  std::int64_t threads = 0;
  std::int64_t log_every = 10;
  std::int64_t eval_every = 100;
  std::int64_t checkpoint_every = 500;
  std::int64_t keep_checkpoints = 2;
  std::int64_t max_skipped = 10;
  std::int64_t analyze_every = 0;
  std::int64_t analyze_tokens = 2048;
  std::vector<std::string> analyze_formats{"e2m1", "e1m2"};
};

struct RunConfig {
  ModelConfig model;
  Recipe recipe;
  DataSettings data;
  OptimizerSettings optimizer;
  ScheduleSettings schedule;
  TrainSettings train;
};

// Assigns the keys in order, from the defaults. `model.base` and `recipe.base` name a compiled-in one or a file, and
// are applied before all other keys of their table. Throws InputError that names where the assignment stands, the key,
// the value and what was expected, with the near name of a mistyped key. Nothing is left to be found later: model and
// recipe are validated, settings that stand for another are resolved.
RunConfig make_run_config(std::span<const Assignment> assignments);

inline constexpr std::string_view kDefaultRecipe = "ufp4";

// `assignments` with recipe.base = kDefaultRecipe if they name no base: what `ufp4 train` starts from. Settings of
// recipe.* change it.
std::vector<Assignment> with_default_recipe(std::vector<Assignment> assignments);

// The settings of a file, where an option names another model or recipe than it: if the file says which one it is about
// (by TABLE.base or TABLE.name, as the file of a run does), its keys of that table are left out. Keys of a file that
// names none are changes, and stay. `table` is "model" or "recipe".
std::vector<Assignment> without_named(std::vector<Assignment> file, const std::string& table);

// Which recipe the run of the assignments has, for its log: "recipe ufp4 with dgrad.hadamard=0".
std::string describe_recipe(std::span<const Assignment> assignments, const Recipe& recipe);

// The effective setting of every key, in a fixed order.
std::vector<Assignment> entries(const RunConfig& config);

// Whether the value of `key` is a list, of whatever length.
bool is_list(std::string_view key);

// The same as a TOML file that read_toml takes.
std::string to_toml(const RunConfig& config);

// Two configurations of one run must agree in all keys but those that change no result: how often it logs, evaluates,
// saves, how many threads it uses, and train.steps as long as schedule.steps stays.
struct Difference {
  std::string key, found, expected;
};
std::optional<Difference> first_difference(const RunConfig& found, const RunConfig& expected);

// How many layers, from the first on but never the last, train.offload_layers is for, and how many after those
// train.recompute.
std::int64_t offloaded_layers(const RunConfig& config);
std::int64_t recomputed_layers(const RunConfig& config);

// The peak learning rate for a model of this width: 0.0014 at d_model 256, falling with the square root of the width.
double default_learning_rate(const ModelConfig& model);

}  // namespace ufp4
