#include <algorithm>

#include "embedded_recipes.h"
#include "numerics/near_name.h"
#include "train/run_config.h"
#include "ufp4/error.h"

namespace ufp4 {

std::vector<std::string_view> known_recipes() {
  std::vector<std::string_view> names;
  for (const auto& [name, text] : embedded_recipes()) names.push_back(name);
  std::sort(names.begin(), names.end(), [](std::string_view a, std::string_view b) {
    return std::pair(a != "bf16", a) < std::pair(b != "bf16", b);
  });
  return names;
}

Recipe load_recipe(const std::string& name_or_path) {
  std::vector<Assignment> assignments;
  if (name_or_path.find('/') != std::string::npos || name_or_path.ends_with(".toml")) {
    assignments = read_toml(name_or_path);
  } else {
    const auto files = embedded_recipes();
    const auto file = std::find_if(files.begin(), files.end(), [&](const auto& f) { return f.first == name_or_path; });
    if (file == files.end()) {
      throw InputError("unknown recipe '" + name_or_path + "'" + name_hint(name_or_path, known_recipes()));
    }
    assignments = parse_toml(file->second, "recipe " + name_or_path);
  }
  Recipe recipe;
  recipe.name = std::filesystem::path(name_or_path).stem();
  for (const Assignment& assignment : assignments) assign(recipe, assignment.key, assignment);
  validate(recipe);
  return recipe;
}

void assign(Recipe& recipe, std::string_view key, const Assignment& assignment) {
  try {
    set(recipe, key, joined(assignment));
  } catch (const InputError& error) {
    throw InputError(assignment.where + ": " + error.what());
  }
}

}  // namespace ufp4
