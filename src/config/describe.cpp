#include "config/describe.h"

#include "config/recipe_keys.h"
#include "config/run_keys.h"

namespace ufp4 {
namespace {

// A key as it is told to people.
struct Row {
  std::string name;
  Domain domain;
  std::string initial;  // empty: none
  std::string help;
};

std::string initial_of(const KeyFacts& facts, const std::string& value) {
  return facts.use.initial.empty() ? value : std::string(facts.use.initial);
}

Row row_of(std::string name, const KeyFacts& facts, const std::string& value) {
  std::string help(facts.help);
  if (!facts.use.option.empty()) help += "; " + std::string(facts.use.option) + " sets it";
  return {std::move(name), facts.domain, initial_of(facts, value), std::move(help)};
}

template <class C>
std::vector<Row> rows_of(std::span<const Key<C>> keys, const std::string& prefix) {
  const C initial{};
  std::vector<Row> rows;
  for (const Key<C>& key : keys) {
    rows.push_back(row_of(prefix + std::string(key.name), key, joined(text_of(key.domain, key.read(initial)), ", ")));
  }
  return rows;
}

std::string text_of(const std::vector<Row>& rows) {
  std::string text;
  for (const Row& row : rows) {
    text += "  " + row.name + " (" + expectation(row.domain) + "; default " +
            (row.initial.empty() ? "none" : row.initial) + ")\n      " + row.help + "\n";
  }
  return text;
}

// '|' would end a cell, and a '*' between others would be taken for emphasis.
std::string cell(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '|' || c == '*') out += '\\';
    out += c;
  }
  return out;
}

// The same as expectation(), for a column under a heading.
std::string values_cell(const Domain& domain) {
  if (!domain.words.empty()) return cell(domain.words);
  switch (domain.kind) {
    case ValueKind::kText: return "text";
    case ValueKind::kList: return "a list";
    case ValueKind::kFlag: return "`true`, `false`";
    case ValueKind::kWhole: return "whole, " + range_text(domain);
    case ValueKind::kReal: return range_text(domain);
    case ValueKind::kChoice: break;
  }
  std::string text;
  for (const std::string_view choice : domain.choices) text += (text.empty() ? "`" : ", `") + cell(choice) + "`";
  return text;
}

std::string markdown_of(const std::vector<Row>& rows) {
  std::string text = "| key | values | default | meaning |\n| --- | --- | --- | --- |\n";
  for (const Row& row : rows) {
    text += "| `" + row.name + "` | " + values_cell(row.domain) + " | " + cell(row.initial) + " | " + cell(row.help) +
            " |\n";
  }
  return text;
}

std::vector<Row> base_rows() {
  std::vector<Row> rows;
  for (const KeyFacts& key : base_keys()) rows.push_back(row_of(std::string(key.name), key, ""));
  return rows;
}

}  // namespace

std::string describe_keys() {
  std::vector<Row> recipe;
  for (const RecipeKeyFacts& key : recipe_key_facts()) {
    for (const std::string& name : key.names) recipe.push_back(row_of("recipe." + name, key.facts, key.initial));
  }
  const std::vector<Row> bases = base_rows();
  return "Settings, for --config FILE (TOML) and --set key=value. What model.base and recipe.base name has its own\n"
         "values; the defaults of model.* and recipe.* are those of a file that leaves them out. In a key of a recipe\n"
         "`*` stands for every product or every operand: recipe.*.dy.rounding.\n\n" +
         text_of({bases[0]}) + text_of(rows_of(model_keys(), "model.")) + text_of({bases[1]}) + text_of(recipe) +
         text_of(rows_of(run_keys(), ""));
}

std::vector<DocTable> doc_tables() {
  std::vector<Row> settings = base_rows();
  for (Row& row : rows_of(run_keys(), "")) settings.push_back(std::move(row));
  std::vector<Row> recipe;
  for (const RecipeKeyFacts& key : recipe_key_facts()) recipe.push_back(row_of(key.pattern, key.facts, key.initial));
  return {{"docs/training.md", "settings of a run", markdown_of(settings)},
          {"docs/training.md", "keys of a model", markdown_of(rows_of(model_keys(), ""))},
          {"docs/recipes.md", "keys of a recipe", markdown_of(recipe)}};
}

std::string describe_doc_tables() {
  std::string text;
  for (const DocTable& table : doc_tables()) {
    text +=
        (text.empty() ? "" : "\n") + std::string(table.page) + ", " + std::string(table.title) + ":\n\n" + table.text;
  }
  return text;
}

}  // namespace ufp4
