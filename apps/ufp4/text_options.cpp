#include "text_options.h"

#include <algorithm>
#include <thread>

#include "config/recipes.h"
#include "python_child.h"
#include "whole_number.h"

namespace ufp4::app {

void TextOptions::add_to(CLI::App& verb) {
  verb.add_option("RUN", run, "A folder that 'ufp4 train' or 'ufp4 import' wrote, or a checkpoint")->required();
  verb.add_option("--recipe", recipe, "How its linears multiply: trained, as the run did; or a recipe, such as bf16")
      ->type_name("NAME|FILE[:KEY=VALUE..]")
      ->capture_default_str();
  verb.add_option("--device", device, "Where to run")->type_name(names_of<DeviceKind>("|"))->capture_default_str();
  verb.add_option("--threads", threads, "Threads (all cores)")->check(whole_number(1, 1024));
  add_python_option(verb, python);
}

TextModelSettings TextOptions::settings() const {
  TextModelSettings settings;
  settings.checkpoint = run;
  if (recipe != "trained") settings.recipe = parse_recipe_choice(recipe, "--recipe").recipe;
  settings.device = find_choice<DeviceKind>("--device", device);
  settings.threads = static_cast<int>(threads != 0 ? threads : std::max(1U, std::thread::hardware_concurrency()));
  return settings;
}

}  // namespace ufp4::app
