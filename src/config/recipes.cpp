#include "config/recipes.h"

#include <algorithm>
#include <filesystem>

#include "embedded_recipes.h"
#include "numerics/near_name.h"
#include "ufp4/error.h"

namespace ufp4 {
namespace {

Recipe make_recipe(const std::string& name, const std::vector<Assignment>& assignments) {
  Recipe recipe;
  recipe.name = name;
  for (const Assignment& assignment : assignments) assign(recipe, assignment.key, assignment);
  validate(recipe);
  return recipe;
}

struct NamedRecipe {
  std::string_view name;  // of the file
  Recipe recipe;
};

// Parsed once: an operator asks for one at every call.
const std::vector<NamedRecipe>& compiled_in() {
  static const std::vector<NamedRecipe> recipes = [] {
    std::vector<NamedRecipe> list;
    for (const auto& [name, text] : embedded_recipes()) {
      list.push_back({name, make_recipe(std::string(name), parse_toml(text, "recipe " + std::string(name)))});
    }
    std::sort(list.begin(), list.end(), [](const NamedRecipe& a, const NamedRecipe& b) {
      return std::pair(a.name != "bf16", a.name) < std::pair(b.name != "bf16", b.name);
    });
    return list;
  }();
  return recipes;
}

const Recipe& find_recipe(std::string_view name) {
  for (const NamedRecipe& known : compiled_in()) {
    if (known.name == name) return known.recipe;
  }
  throw InputError("unknown recipe '" + std::string(name) + "'" + name_hint(name, known_recipes()));
}

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const std::size_t first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

}  // namespace

std::vector<std::string_view> known_recipes() {
  std::vector<std::string_view> names;
  for (const NamedRecipe& known : compiled_in()) names.push_back(known.name);
  return names;
}

Recipe load_recipe(const std::string& name_or_path) {
  if (!is_toml_path(name_or_path)) return find_recipe(name_or_path);
  return make_recipe(std::filesystem::path(name_or_path).stem().string(), read_toml(name_or_path));
}

void assign(Recipe& recipe, std::string_view key, const Assignment& assignment) {
  try {
    set(recipe, key, joined(assignment));
  } catch (const InputError& error) {
    throw InputError(assignment.where + ": " + error.what());
  }
}

RecipeChoice parse_recipe_choice(std::string_view text, std::string_view option) {
  const std::string base(text.substr(0, text.find(':')));
  RecipeChoice choice{"", load_recipe(base), {{"recipe.base", {base}, std::string(option), false}}};
  choice.label = is_toml_path(base) ? choice.recipe.name : base;
  if (base.size() == text.size()) return choice;
  for (std::size_t colon = base.size(); colon < text.size();) {
    const std::size_t end = std::min(text.find(':', colon + 1), text.size());
    const std::string_view part = text.substr(colon + 1, end - colon - 1);
    Assignment change = parse_override(part, option);
    assign(choice.recipe, change.key, change);
    choice.label += ":" + std::string(part);
    change.key = "recipe." + change.key;
    choice.assignments.push_back(std::move(change));
    colon = end;
  }
  choice.recipe.name = choice.label;
  validate(choice.recipe);
  choice.assignments.push_back({"recipe.name", {choice.label}, std::string(option), false});
  return choice;
}

Recipe find_or_parse_recipe(std::string_view text) {
  const std::string_view whole = trimmed(text);
  Recipe recipe;
  recipe.name = "custom";
  bool first = true;
  for (std::string_view rest = whole; !rest.empty();) {
    const std::size_t end = std::min(rest.find(';'), rest.size());
    const std::string_view entry = trimmed(rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (entry.empty()) continue;
    const std::size_t equals = entry.find('=');
    if (equals != std::string_view::npos) {
      set(recipe, trimmed(entry.substr(0, equals)), trimmed(entry.substr(equals + 1)));
    } else if (first) {
      recipe = find_recipe(entry);
      if (entry != whole) recipe.name = whole;
    } else {
      throw InputError("recipe entry '" + std::string(entry) + "' is not of the form key = value");
    }
    first = false;
  }
  validate(recipe);
  return recipe;
}

std::string describe_changes(const Recipe& recipe, const Recipe& base) {
  constexpr std::size_t kShown = 3;
  const auto found = entries(recipe);
  const auto expected = entries(base);
  std::string changes;
  std::size_t count = 0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    const auto& [key, value] = found[i];
    if (key == "name" || key == "summary" || value == expected[i].second) continue;
    if (count++ >= kShown) continue;
    changes += changes.empty() ? " with " : ", ";
    changes += key;
    changes += "=";
    changes += value;
  }
  if (recipe.name != base.name) return recipe.name;  // its name says that it is another
  if (count > kShown) changes += " and " + std::to_string(count - kShown) + " more keys changed";
  return base.name + changes;
}

}  // namespace ufp4
