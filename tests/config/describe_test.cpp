#include "config/describe.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "config/recipe_keys.h"
#include "config/run_config.h"
#include "config/run_keys.h"
#include "io/file.h"

namespace ufp4 {
namespace {

RunConfig tiny() { return make_run_config(std::vector<Assignment>{{"model.base", {"tiny"}, "", false}}); }

// What the list says of one key: the line with its values and the one with its meaning.
std::string told(std::string_view text, std::string_view key) {
  const std::size_t begin = text.find("\n  " + std::string(key) + " (");
  if (begin == std::string_view::npos) return {};
  const std::size_t end = text.find("\n  ", text.find("\n      ", begin + 1) + 1);
  return std::string(text.substr(begin, end - begin));
}

// The first line of a table that its page lacks; empty if the page has the table, line after line.
std::string missing_line(const std::string& page, const std::string& table) {
  if (page.find("\n\n" + table) != std::string::npos) return {};
  for (std::size_t begin = 0; begin < table.size();) {
    const std::size_t end = table.find('\n', begin) + 1;
    if (page.find(table.substr(begin, end - begin)) == std::string::npos) return table.substr(begin, end - begin);
    begin = end;
  }
  return "the lines are there, but apart or in another order";
}

TEST(Describe, EveryKeyIsTold) {
  const std::string text = describe_keys();
  for (const Assignment& entry : entries(tiny())) EXPECT_NE(told(text, entry.key), "") << entry.key;
}

TEST(Describe, EveryKeyHasValuesADefaultAndAMeaning) {
  const std::string text = describe_keys();
  for (const Assignment& entry : entries(tiny())) {
    const std::string told_of_it = told(text, entry.key);
    EXPECT_NE(told_of_it.find("; default "), std::string::npos) << told_of_it;
    const std::size_t meaning = told_of_it.rfind("\n      ");
    ASSERT_NE(meaning, std::string::npos) << told_of_it;
    EXPECT_GT(told_of_it.size(), meaning + 10) << told_of_it;
    if (entry.key.ends_with(".name") || entry.key.ends_with(".summary")) continue;
    EXPECT_EQ(told_of_it.find("(text"), std::string::npos) << told_of_it;
  }
}

TEST(Describe, KeysOfOperandsGiveTheirChoices) {
  const std::string text = describe_keys();
  EXPECT_NE(told(text, "recipe.wgrad.x.outer")
                .find("one of tensor, row, 1x128, 128x128, 1x256, 1x512, 1x1024, own; default own: tensor"),
            std::string::npos);
  EXPECT_NE(told(text, "recipe.dgrad.dy.tau").find("one of auto, 1, 9/8; default auto"), std::string::npos);
  EXPECT_NE(told(text, "recipe.fprop.w.amax").find("'exact' or 'delayed'; default exact"), std::string::npos);
  EXPECT_NE(told(text, "recipe.fprop.w.rounding").find("'rtne' or 'sr'; default rtne"), std::string::npos);
  EXPECT_NE(told(text, "recipe.fprop.w.format").find("bf16, or the name of a format"), std::string::npos);
  EXPECT_NE(told(text, "model.d_model").find("a whole number from 2 to 131072"), std::string::npos);
  EXPECT_NE(told(text, "schedule.kind").find("one of wsd, cosine, constant; default wsd"), std::string::npos);
}

TEST(Describe, ThePagesHaveTheTables) {
  for (const DocTable& table : doc_tables()) {
    const std::string page = io::read_text_file(std::filesystem::path(UFP4_SOURCE_DIR) / table.page);
    EXPECT_EQ(missing_line(page, table.text), "")
        << table.page << " differs in the " << table.title << "; `ufp4 train --help-config-markdown` prints the table";
  }
}

TEST(Describe, ThePagesKnowEveryNamedRecipeAndModel) {
  const std::filesystem::path docs = std::filesystem::path(UFP4_SOURCE_DIR) / "docs";
  const std::string recipes = io::read_text_file(docs / "recipes.md");
  for (const std::string_view name : known_recipes()) {
    EXPECT_NE(recipes.find("`" + std::string(name) + "`"), std::string::npos) << name;
  }
  const std::string training = io::read_text_file(docs / "training.md");
  for (const std::string_view name : model_names()) {
    EXPECT_NE(training.find("\n| `" + std::string(name) + "` |"), std::string::npos) << name;
  }
}

TEST(Describe, APageWithAnotherTableIsFound) {
  for (const DocTable& table : doc_tables()) {
    const std::string page = "# Page\n\n" + table.text + "\nText.\n";
    EXPECT_EQ(missing_line(page, table.text), "");
    std::string without_last = table.text;
    without_last.erase(without_last.rfind('\n', without_last.size() - 2) + 1);
    EXPECT_NE(missing_line("# Page\n\n" + without_last, table.text), "");
    std::string changed = page;
    changed[changed.size() / 2] ^= 1;
    EXPECT_NE(missing_line(changed, table.text), "");
  }
}

TEST(Describe, NoCellEndsEarly) {
  for (const DocTable& table : doc_tables()) {
    for (std::size_t begin = 0; begin < table.text.size();) {
      const std::size_t end = table.text.find('\n', begin);
      const std::string line = table.text.substr(begin, end - begin);
      EXPECT_EQ(std::count(line.begin(), line.end(), '|'), 5) << line;
      begin = end + 1;
    }
  }
}

}  // namespace
}  // namespace ufp4
