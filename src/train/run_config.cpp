#include "train/run_config.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "numerics/near_name.h"
#include "train/config_keys.h"
#include "ufp4/error.h"
#include "ufp4/format.h"

namespace ufp4 {
namespace {

constexpr std::string_view kModelPrefix = "model.";
constexpr std::string_view kRecipePrefix = "recipe.";

[[noreturn]] void throw_unknown_key(const Assignment& assignment) {
  std::vector<std::string> names{"model.base", "recipe.base"};
  for (const auto& [key, value] : entries(ModelConfig{})) names.push_back(std::string(kModelPrefix) + key);
  for (const auto& [key, value] : entries(Recipe{})) names.push_back(std::string(kRecipePrefix) + key);
  for (const ConfigKey& key : config_keys()) names.emplace_back(key.name);
  const std::vector<std::string_view> views(names.begin(), names.end());
  const std::string_view near = near_name(assignment.key, views);
  throw InputError(
      assignment.where + ": unknown key '" + assignment.key + "'" +
      (near.empty() ? "; 'ufp4 train --help-config' lists all" : " (did you mean '" + std::string(near) + "'?)"));
}

void assign(ModelConfig& model, std::string_view key, const Assignment& assignment) {
  try {
    set(model, key, joined(assignment));
  } catch (const InputError& error) {
    throw InputError(assignment.where + ": " + error.what());
  }
}

std::string_view recipe_expectation(std::string_view key) {
  if (key.ends_with(".hadamard")) return "0 for none, 16, 32, 64 or 128";
  if (key.ends_with(".format")) return "bf16, or a format that `ufp4 formats` lists";
  if (key.ends_with(".block")) return "0 for the format's own, 16, 32, 64 or 128";
  if (key.ends_with(".rounding")) return "rtne or sr";
  return key == "keep_bf16" ? "patterns of linear layers that stay BF16, as layers.0.*" : "text";
}

// A base replaces the whole table; its other keys come after it whatever their order.
void apply_bases(RunConfig& config, std::span<const Assignment> assignments) {
  for (const Assignment& assignment : assignments) {
    if (assignment.key == "model.base") config.model = load_model_config(joined(assignment));
    if (assignment.key == "recipe.base") config.recipe = load_recipe(joined(assignment));
  }
}

void resolve(RunConfig& config) {
  TrainSettings& train = config.train;
  if (config.schedule.steps == 0) config.schedule.steps = train.steps;
  if (train.steps > config.schedule.steps) {
    throw InputError("train.steps is " + std::to_string(train.steps) + ", expected at most schedule.steps, " +
                     std::to_string(config.schedule.steps));
  }
  if (train.micro_batch == 0) train.micro_batch = train.batch;
  if (train.batch % train.micro_batch != 0) {
    throw InputError("train.micro_batch is " + std::to_string(train.micro_batch) +
                     ", expected a divisor of train.batch, " + std::to_string(train.batch));
  }
  if (train.batch > std::numeric_limits<std::uint32_t>::max() / config.model.context) {
    throw InputError("train.batch is " + std::to_string(train.batch) + " sequences of " +
                     std::to_string(config.model.context) + " tokens, expected fewer than 2^32 tokens a step");
  }
  if (config.schedule.kind == "wsd" && config.schedule.warmup + config.schedule.decay > 1) {
    throw InputError("schedule.warmup and schedule.decay are " + number_text(config.schedule.warmup) + " and " +
                     number_text(config.schedule.decay) + ", expected a sum of at most 1");
  }
  if (config.optimizer.lr == 0) config.optimizer.lr = default_learning_rate(config.model);
  for (const std::string& name : train.analyze_formats) {
    try {
      find_format(name);
    } catch (const InputError& error) {
      throw InputError(std::string("train.analyze_formats: ") + error.what());
    }
  }
  if (config.data.train.empty()) throw InputError("data.train is empty, expected at least one file, or 'builtin'");
}

}  // namespace

std::int64_t offloaded_layers(const RunConfig& config) {
  return std::min(config.train.offload_layers, config.model.layers - 1);
}

std::int64_t recomputed_layers(const RunConfig& config) {
  if (config.train.recompute == "none") return 0;
  const std::int64_t layers = config.train.recompute_layers;
  const std::int64_t left = config.model.layers - offloaded_layers(config);
  return layers == 0 ? left : std::min(layers, left);
}

double default_learning_rate(const ModelConfig& model) {
  const double lr = 0.0014 * std::sqrt(256.0 / static_cast<double>(model.d_model));
  const double unit = std::pow(10.0, std::floor(std::log10(lr)) - 1);
  return std::stod(number_text(std::round(lr / unit) * unit));  // two digits are all that the rule knows
}

RunConfig make_run_config(std::span<const Assignment> assignments) {
  RunConfig config;
  apply_bases(config, assignments);
  for (const Assignment& assignment : assignments) {
    const std::string& key = assignment.key;
    if (key == "model.base" || key == "recipe.base") continue;
    if (key.starts_with(kModelPrefix)) {
      assign(config.model, std::string_view(key).substr(kModelPrefix.size()), assignment);
    } else if (key.starts_with(kRecipePrefix)) {
      assign(config.recipe, std::string_view(key).substr(kRecipePrefix.size()), assignment);
    } else if (const ConfigKey* known = find_key(key)) {
      assign(config, *known, assignment);
    } else {
      throw_unknown_key(assignment);
    }
  }
  if (config.model.d_model == 0) {
    std::string names;
    for (const std::string_view name : model_names()) names += (names.empty() ? "" : ", ") + std::string(name);
    throw InputError("no model is chosen: give --model NAME or FILE, or model.* settings; known: " + names);
  }
  validate(config.model);
  validate(config.recipe);
  resolve(config);
  return config;
}

std::vector<Assignment> entries(const RunConfig& config) {
  std::vector<Assignment> list;
  for (const auto& [key, value] : entries(config.model)) list.push_back({std::string(kModelPrefix) + key, {value}, ""});
  for (const auto& [key, value] : entries(config.recipe))
    list.push_back({std::string(kRecipePrefix) + key, {value}, ""});
  for (const ConfigKey& key : config_keys()) list.push_back({std::string(key.name), value_of(config, key), ""});
  return list;
}

bool is_list(std::string_view key) {
  const ConfigKey* known = find_key(key);
  RunConfig config;
  return known != nullptr && std::holds_alternative<std::vector<std::string>*>(known->slot(config));
}

std::string to_toml(const RunConfig& config) {
  std::string text = "# Every effective setting of this run. `ufp4 train --config FILE` takes it.\n";
  std::string table;
  for (const Assignment& entry : entries(config)) {
    const std::size_t dot = entry.key.find('.');
    if (const std::string name = entry.key.substr(0, dot); name != table) {
      text += "\n[" + name + "]\n";
      table = name;
    }
    text += entry.key.substr(dot + 1) + " = ";
    if (is_list(entry.key)) {
      text += "[";
      for (std::size_t i = 0; i < entry.value.size(); ++i) text += (i == 0 ? "" : ", ") + toml_quote(entry.value[i]);
      text += "]\n";
    } else {
      text += toml_scalar(entry.value.front()) + "\n";
    }
  }
  return text;
}

std::optional<Difference> first_difference(const RunConfig& found, const RunConfig& expected) {
  const std::vector<Assignment> a = entries(found);
  const std::vector<Assignment> b = entries(expected);
  for (std::size_t i = 0; i < a.size(); ++i) {
    const ConfigKey* key = find_key(a[i].key);
    if ((key != nullptr && key->may_change) || a[i].value == b[i].value) continue;
    return Difference{a[i].key, joined(a[i]), joined(b[i])};
  }
  return std::nullopt;
}

std::string describe_keys() {
  const auto line = [](std::string_view key, const std::string& detail, std::string_view meaning) {
    return "  " + std::string(key) + " (" + detail + ")\n      " + std::string(meaning) + "\n";
  };
  std::string text = "Settings, for --config FILE (TOML) and --set key=value:\n\n";
  text += line("model.base", "name or file", "the model from which the other model.* keys start; --model sets it");
  for (const auto& [key, value] : entries(ModelConfig{})) {
    text += "  " + std::string(kModelPrefix) + key + " (default " + (value.empty() ? "none" : value) + ")\n";
  }
  text += line("recipe.base", "name or file", "the recipe from which the other recipe.* keys start; --recipe sets it");
  for (const auto& [key, value] : entries(Recipe{})) {
    text += "  " + std::string(kRecipePrefix) + key + " (" + std::string(recipe_expectation(key)) + ")\n";
  }
  for (const ConfigKey& key : config_keys()) {
    std::string value;
    for (const std::string& item : value_of(RunConfig{}, key)) value += (value.empty() ? "" : ", ") + item;
    text += line(key.name, expectation(key) + "; default " + (value.empty() ? "none" : value), key.meaning);
  }
  return text;
}

}  // namespace ufp4
