#include "train_options.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "config/describe.h"
#include "config/run_keys.h"
#include "io/checkpoint_folders.h"

namespace ufp4::app {

namespace {

// " (default 1000)": that of the setting which the option stands for.
std::string default_of(std::string_view key) {
  const Key<RunConfig>& known = *find_key(run_keys(), key);
  return fmt::format(" (default {})", joined(text_of(known.domain, known.read(RunConfig{}))));
}

std::string models_text() {
  std::string text = "Model:";
  for (const std::string_view name : model_names()) text += " " + std::string(name) + ",";
  return text + " or a TOML file";
}

// The settings of its model.
std::vector<Assignment> model_of_checkpoint(const std::string& path) {
  std::vector<Assignment> list = read_toml(io::find_checkpoint(path) / "config.toml");
  std::erase_if(list, [](const Assignment& a) { return !a.key.starts_with("model."); });
  return list;
}

}  // namespace

void TrainOptions::add_to(CLI::App& verb) {
  verb.add_option("--model", model, models_text())->type_name("NAME|FILE")->take_last();
  verb.add_option("--data", data,
                  "Files to train on, or 'builtin' for the built-in language" + default_of("data.train"))
      ->type_name("FILE...");
  verb.add_option("--val", val, "Files to validate on; without it a share of --data is held out")->type_name("FILE...");
  verb.add_option("--steps", steps, "Optimizer steps" + default_of("train.steps"))->type_name("N")->take_last();
  verb.add_option("--out", out, "Folder of the results; one that was interrupted continues")
      ->required()
      ->type_name("DIR")
      ->take_last();
  verb.add_option("--init", init,
                  "Begins with the weights of a run, a checkpoint or an imported model, which is --model's default")
      ->type_name("DIR")
      ->take_last();
  verb.add_option("--config", config, "TOML file of settings")->type_name("FILE")->take_last();
  verb.add_option("--set", set, "Sets one setting; may be repeated")->type_name("KEY=VALUE")->allow_extra_args(false);
  verb.add_option("--device", device, "Where to train" + default_of("train.device"))
      ->type_name(names_of<DeviceKind>("|"))
      ->take_last();
  const auto describe = [](std::string (*text)()) {
    return [text] {
      fmt::print("{}", text());
      throw CLI::Success();
    };
  };
  verb.add_flag_callback("--help-config", describe(describe_keys),
                         "Lists all settings with the values that they take, default and meaning")
      ->trigger_on_parse();
  verb.add_flag_callback("--help-config-markdown", describe(describe_doc_tables),
                         "The same as the tables of docs/training.md and docs/recipes.md")
      ->trigger_on_parse();
}

std::vector<Assignment> TrainOptions::assignments() const {
  std::vector<Assignment> list;
  if (!config.empty()) list = read_toml(config);
  const auto names_model = [](const Assignment& a) { return a.key == "model.base" || a.key == "model.name"; };
  if (!init.empty() && model.empty() && std::none_of(list.begin(), list.end(), names_model)) {
    const std::vector<Assignment> of_init = model_of_checkpoint(init);
    list.insert(list.begin(), of_init.begin(), of_init.end());
  }
  if (!model.empty()) list = without_named(std::move(list), "model");
  if (!recipe.empty() || names_recipes) list = without_named(std::move(list), "recipe");
  const auto add = [&](const char* key, const char* option, const std::vector<std::string>& value) {
    if (!value.empty() && !value.front().empty()) list.push_back({key, value, option, false});
  };
  // Each argument is one file, whose name may hold commas.
  const auto add_files = [&](const char* key, const char* option, const std::vector<std::string>& files) {
    if (!files.empty()) list.push_back({key, files, option, true});
  };
  add("model.base", "--model", {model});
  add("train.init", "--init", {init});
  if (!recipe.empty()) {
    const RecipeChoice choice = parse_recipe_choice(recipe, "--recipe");
    list.insert(list.end(), choice.assignments.begin(), choice.assignments.end());
  }
  add_files("data.train", "--data", data);
  add_files("data.val", "--val", val);
  add("train.steps", "--steps", {steps});
  add("train.device", "--device", {device});
  for (const std::string& text : set) list.push_back(parse_override(text, "--set"));
  return list;
}

}  // namespace ufp4::app
