// Everything that decides a training run, as one flat list of typed keys: model.*, recipe.*, data.*, optimizer.*,
// schedule.*, train.*. A TOML file, the program's options and --set all end in assignments to these keys.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "model/model_config.h"
#include "train/toml_file.h"
#include "ufp4/recipe.h"

namespace ufp4 {

struct DataSettings {
  std::vector<std::string> train{"builtin"};
  std::vector<std::string> val;
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
  std::string kind = "wsd";
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
  std::string device = "auto";
  std::string stash = "packed";
  std::string attention = "reproducible";
  std::string graph = "on";
  std::string producers = "fused";
  std::string gemm = "auto";
  std::int64_t offload_layers = 0;
  std::string recompute = "none";
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

// All keys with type, range, default and meaning, as text for people.
std::string describe_keys();

// How many layers, from the first on but never the last, train.offload_layers is for, and how many after those
// train.recompute.
std::int64_t offloaded_layers(const RunConfig& config);
std::int64_t recomputed_layers(const RunConfig& config);

// The peak learning rate for a model of this width: 0.0014 at d_model 256, falling with the square root of the width.
double default_learning_rate(const ModelConfig& model);

// The recipes compiled in, in alphabetical order with bf16 first.
std::vector<std::string_view> known_recipes();

// A name compiled in, or the path of a TOML file (anything with a '/' or that ends in ".toml"). Validated.
Recipe load_recipe(const std::string& name_or_path);

// set() whose message says where the assignment stands.
void assign(Recipe& recipe, std::string_view key, const Assignment& assignment);

}  // namespace ufp4
