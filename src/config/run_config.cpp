#include "config/run_config.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "config/run_keys.h"
#include "io/tensor_name.h"
#include "numerics/near_name.h"
#include "ufp4/error.h"
#include "ufp4/format.h"

namespace ufp4 {
namespace {

constexpr std::string_view kModelPrefix = "model.";
constexpr std::string_view kRecipePrefix = "recipe.";
constexpr std::string_view kModelBase = "model.base";
constexpr std::string_view kRecipeBase = "recipe.base";

// What other programs call a key, whatever table they have it in.
struct Synonym {
  std::string_view elsewhere, key;
};
constexpr std::array kSynonyms{
    Synonym{"learning_rate", "optimizer.lr"},
    Synonym{"max_lr", "optimizer.lr"},
    Synonym{"adam_beta1", "optimizer.beta1"},
    Synonym{"adam_beta2", "optimizer.beta2"},
    Synonym{"adam_epsilon", "optimizer.epsilon"},
    Synonym{"eps", "optimizer.epsilon"},
    Synonym{"grad_clip", "optimizer.clip"},
    Synonym{"clip_grad", "optimizer.clip"},
    Synonym{"max_grad_norm", "optimizer.clip"},
    Synonym{"max_norm", "optimizer.clip"},
    Synonym{"wd", "optimizer.weight_decay"},
    Synonym{"lr_scheduler_type", "schedule.kind"},
    Synonym{"warmup_ratio", "schedule.warmup"},
    Synonym{"warmup_steps", "schedule.warmup"},
    Synonym{"batch_size", "train.batch"},
    Synonym{"global_batch_size", "train.batch"},
    Synonym{"micro_batch_size", "train.micro_batch"},
    Synonym{"gradient_accumulation_steps", "train.micro_batch"},
    Synonym{"max_steps", "train.steps"},
    Synonym{"max_iters", "train.steps"},
    Synonym{"train_steps", "train.steps"},
    Synonym{"eval_interval", "train.eval_every"},
    Synonym{"save_steps", "train.checkpoint_every"},
    Synonym{"save_total_limit", "train.keep_checkpoints"},
    Synonym{"seq_len", "model.context"},
    Synonym{"seq_length", "model.context"},
    Synonym{"block_size", "model.context"},
    Synonym{"sequence_length", "model.context"},
    Synonym{"max_position_embeddings", "model.context"},
    Synonym{"hidden_size", "model.d_model"},
    Synonym{"n_embd", "model.d_model"},
    Synonym{"dim", "model.d_model"},
    Synonym{"n_layer", "model.layers"},
    Synonym{"n_layers", "model.layers"},
    Synonym{"num_layers", "model.layers"},
    Synonym{"num_hidden_layers", "model.layers"},
    Synonym{"n_head", "model.heads"},
    Synonym{"n_heads", "model.heads"},
    Synonym{"num_attention_heads", "model.heads"},
    Synonym{"n_kv_heads", "model.kv_heads"},
    Synonym{"num_key_value_heads", "model.kv_heads"},
    Synonym{"intermediate_size", "model.ffn"},
    Synonym{"ffn_size", "model.ffn"},
    Synonym{"tie_word_embeddings", "model.tie_embeddings"},
    Synonym{"rms_norm_eps", "model.norm_epsilon"},
};

// The key that a name of another program stands for; empty if none is known.
std::string_view key_called(std::string_view name) {
  const std::string_view last = name.substr(name.rfind('.') + 1);  // npos + 1 is 0
  for (const Synonym& synonym : kSynonyms) {
    if (synonym.elsewhere == last) return synonym.key;
  }
  return {};
}

[[noreturn]] void throw_unknown_key(const Assignment& assignment) {
  std::vector<std::string> names{std::string(kModelBase), std::string(kRecipeBase)};
  for (const auto& [key, value] : entries(ModelConfig{})) names.push_back(std::string(kModelPrefix) + key);
  for (const auto& [key, value] : entries(Recipe{})) names.push_back(std::string(kRecipePrefix) + key);
  for (const Key<RunConfig>& key : run_keys()) names.emplace_back(key.name);
  const std::vector<std::string_view> views(names.begin(), names.end());
  const std::string_view synonym = key_called(assignment.key);
  const std::string_view near = synonym.empty() ? near_name(assignment.key, views) : synonym;
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

void assign(RunConfig& config, const Key<RunConfig>& key, const Assignment& assignment) {
  // The items of an array are whole names, which may hold commas.
  const bool whole_items = assignment.array && key.domain.kind == ValueKind::kList;
  const std::optional<Value> value = whole_items ? Value(assignment.value) : parse_value(key.domain, assignment.value);
  if (value && in_range(key.domain, *value)) return key.write(config, *value);
  throw InputError(assignment.where + ": " + std::string(key.name) + " is " +
                   io::show_name(joined(assignment.value, ", ")) + ", expected " + expectation(key.domain));
}

// A base replaces the whole table; its other keys come after it whatever their order.
void apply_bases(RunConfig& config, std::span<const Assignment> assignments) {
  for (const Assignment& assignment : assignments) {
    if (assignment.key == kModelBase) config.model = load_model_config(joined(assignment));
    if (assignment.key == kRecipeBase) config.recipe = load_recipe(joined(assignment));
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
  if (config.schedule.kind == ScheduleKind::kWsd && config.schedule.warmup + config.schedule.decay > 1) {
    throw InputError("schedule.warmup and schedule.decay are " + number_text(config.schedule.warmup) + " and " +
                     number_text(config.schedule.decay) + ", expected a sum of at most 1");
  }
  if (config.model.norm_place == NormPlace::kAfter &&
      (train.offload_layers > 0 || train.recompute != Recompute::kNone)) {
    throw InputError(std::string(train.offload_layers > 0 ? "train.offload_layers" : "train.recompute") +
                     " needs model.norm_place = before: a block whose norms stand after its sublayers keeps all");
  }
  if (config.optimizer.lr == 0) config.optimizer.lr = default_learning_rate(config.model);
  for (const std::string& name : train.analyze_formats) {
    try {
      find_format(name);
    } catch (const InputError& error) {
      throw InputError(std::string("train.analyze_formats: ") + error.what());
    }
  }
  for (const std::string& weight : config.data.weights) {
    const std::optional<Value> value =
        parse_value({.kind = ValueKind::kReal, .min = 1e-9, .max = 1e9, .choices = {}, .words = {}}, {weight});
    if (!value || !(std::get<double>(*value) > 0)) {
      throw InputError("data.weights has '" + weight + "', expected numbers above 0");
    }
  }
  if (config.data.train.empty()) throw InputError("data.train is empty, expected at least one file, or 'builtin'");
}

}  // namespace

std::int64_t offloaded_layers(const RunConfig& config) {
  return std::min(config.train.offload_layers, config.model.layers - 1);
}

std::int64_t recomputed_layers(const RunConfig& config) {
  if (config.train.recompute == Recompute::kNone) return 0;
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
    if (key == kModelBase || key == kRecipeBase) continue;
    if (key.starts_with(kModelPrefix)) {
      assign(config.model, std::string_view(key).substr(kModelPrefix.size()), assignment);
    } else if (key.starts_with(kRecipePrefix)) {
      assign(config.recipe, std::string_view(key).substr(kRecipePrefix.size()), assignment);
    } else if (const Key<RunConfig>* known = find_key(run_keys(), key)) {
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

std::vector<Assignment> with_default_recipe(std::vector<Assignment> assignments) {
  const auto is_base = [](const Assignment& assignment) { return assignment.key == kRecipeBase; };
  if (std::none_of(assignments.begin(), assignments.end(), is_base)) {
    assignments.push_back({std::string(kRecipeBase), {std::string(kDefaultRecipe)}, "default", false});
  }
  return assignments;
}

std::vector<Assignment> without_named(std::vector<Assignment> file, const std::string& table) {
  const auto names = [&](const Assignment& a) { return a.key == table + ".base" || a.key == table + ".name"; };
  if (std::any_of(file.begin(), file.end(), names)) {
    std::erase_if(file, [&](const Assignment& a) { return a.key.starts_with(table + "."); });
  }
  return file;
}

std::string describe_recipe(std::span<const Assignment> assignments, const Recipe& recipe) {
  Recipe base;
  for (const Assignment& assignment : assignments) {
    if (assignment.key == kRecipeBase) base = load_recipe(joined(assignment));
  }
  return "recipe " + describe_changes(recipe, base);
}

std::vector<Assignment> entries(const RunConfig& config) {
  std::vector<Assignment> list;
  for (const auto& [key, value] : entries(config.model))
    list.push_back({std::string(kModelPrefix) + key, {value}, "", false});
  for (const auto& [key, value] : entries(config.recipe))
    list.push_back({std::string(kRecipePrefix) + key, {value}, "", false});
  for (const Key<RunConfig>& key : run_keys()) {
    list.push_back(
        {std::string(key.name), text_of(key.domain, key.read(config)), "", key.domain.kind == ValueKind::kList});
  }
  return list;
}

bool is_list(std::string_view key) {
  const Key<RunConfig>* known = find_key(run_keys(), key);
  return known != nullptr && known->domain.kind == ValueKind::kList;
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
    const Key<RunConfig>* key = find_key(run_keys(), a[i].key);
    if ((key != nullptr && key->use.may_change) || a[i].value == b[i].value) continue;
    return Difference{a[i].key, joined(a[i]), joined(b[i])};
  }
  return std::nullopt;
}

}  // namespace ufp4
