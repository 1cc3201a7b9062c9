#include "config/toml_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>

#include "config/toml_levels.h"
#include "io/temporary_folder.h"
#include "message_of.h"
#include "ufp4/error.h"

namespace ufp4 {
namespace {

std::string repeat(std::string_view text, std::size_t times) {
  std::string all;
  for (std::size_t i = 0; i < times; ++i) all += text;
  return all;
}

// Texts whose value nests `levels` deep, one for each way to nest.
std::vector<std::pair<std::string, std::string>> nested(std::size_t levels) {
  const std::size_t n = levels;
  return {{"array", "a = " + repeat("[", n) + repeat("]", n)},
          {"inline table", repeat("a={", n) + "b=1" + repeat("}", n)},
          {"arrays and tables", "a = " + repeat("[{a=", n / 2) + "1" + repeat("}]", n / 2)},
          {"dotted key", repeat("a.", n) + "b = 1"},
          {"dotted key with spaces", repeat("a .\t", n) + "b = 1"},
          {"quoted key", repeat("\"a\".'b'.", n / 2) + "b = 1"},
          {"header", "[" + repeat("a.", n - 1) + "b]\nc = 1"},
          {"array of tables", "[[" + repeat("a.", n - 1) + "b]]\nc = 1"},
          {"header and key", "[" + repeat("a.", n / 2 - 1) + "b]\n" + repeat("a.", n - n / 2) + "c = 1"},
          {"behind a string", "a = [\"\"\"x\"\"\"\", " + repeat("[", n - 1) + repeat("]", n)},
          {"behind a comment", "# ]]]] \"\na = [ # '''\n" + repeat("[", n - 1) + repeat("]", n)}};
}

TEST(TomlFile, NestingIsCountedWithoutParsing) {
  for (const auto& [name, text] : nested(32)) EXPECT_FALSE(line_beyond(text, 32)) << name;
  for (const auto& [name, text] : nested(34)) EXPECT_TRUE(line_beyond(text, 32)) << name;
  EXPECT_EQ(line_beyond("a = 1\n\nb = '''\n\n'''\n" + nested(40).front().second, 32), 6U);
}

TEST(TomlFile, NestingBeyondTheLimitIsRefusedBeforeItIsParsed) {
  for (const auto& [name, text] : nested(200'000)) {
    const std::string message = message_of<InputError>([&, &t = text] { parse_toml(t, "deep.toml"); });
    EXPECT_TRUE(message.starts_with("deep.toml:")) << name << ": " << message;
    EXPECT_NE(message.find("deeper than 32 levels"), std::string::npos) << name << ": " << message;
  }
}

TEST(TomlFile, KeysAndValuesThatMessagesQuoteAreBounded) {
  const std::string x(100'000, 'x');
  for (const std::string& text : {x + " = 1", "a = \"" + x + "\"", "[" + x + "]\na = 1", "a = [\"" + x + "\"]"}) {
    const std::string message = message_of<InputError>([&] { parse_toml(text, "t"); });
    EXPECT_NE(message.find(" bytes, expected at most "), std::string::npos) << message.substr(0, 200);
    EXPECT_LT(message.size(), 300U);
  }
}

TEST(TomlFile, WhatOnlyLooksNestedIsRead) {
  const std::string brackets = repeat("[{a.", 100);
  const auto list = parse_toml("a = \"" + brackets + "\"\nb = '" + brackets + "'\nc = \"\"\"\\\"" + brackets +
                                   "\n\"\"\"\nd = '''" + brackets + "'''\n# " + brackets + "\n" +
                                   repeat("[t]\nx.y = 1.5\n", 1) + "z = [" + repeat("1.5, ", 100) + "]\n",
                               "t");
  ASSERT_EQ(list.size(), 6U);
  EXPECT_EQ(list[0].value.front(), brackets);
  EXPECT_EQ(list[2].value.front(), "\"" + brackets + "\n");
  EXPECT_EQ(list[4].key, "t.x.y");
  EXPECT_EQ(list[5].value.size(), 100U);
  EXPECT_TRUE(list[5].array);
  EXPECT_FALSE(list[4].array);
}

TEST(TomlFile, ErrorsNameTheLine) {
  const std::string message = message_of<InputError>([] { parse_toml("[train]\nsteps = = 3\n", "my.toml"); });
  EXPECT_NE(message.find("my.toml:2"), std::string::npos) << message;
  EXPECT_THROW(parse_toml("a = 2020-01-01", "t"), InputError);
  EXPECT_THROW(parse_toml("a = [[1]]", "t"), InputError);
  EXPECT_THROW(parse_override("novalue", "--set"), InputError);
}

TEST(TomlFile, OnlyARegularFileOfAPageOrSoIsRead) {
  const TemporaryFolder folder;
  const auto refusal = [](const std::filesystem::path& path) {
    return message_of<InputError>([&] { read_toml(path); });
  };
  EXPECT_NE(refusal(folder.path() / "none.toml").find("none.toml"), std::string::npos);
  EXPECT_NE(refusal(folder.path()).find("folder"), std::string::npos);
  ASSERT_EQ(::mkfifo((folder.path() / "pipe.toml").c_str(), 0600), 0);
  EXPECT_NE(refusal(folder.path() / "pipe.toml").find("not a regular file"), std::string::npos);
  std::ofstream(folder.path() / "large.toml") << "a = 1\n#" << std::string(std::size_t{1} << 20, ' ');
  EXPECT_NE(refusal(folder.path() / "large.toml").find("large.toml"), std::string::npos);
  std::ofstream(folder.path() / "good.toml") << "[a]\nb = 'c'\n";
  EXPECT_EQ(read_toml(folder.path() / "good.toml").front().key, "a.b");
}

TEST(TomlFile, SourcesWithWeightsAreTwoLists) {
  const auto list = parse_toml("[data]\ntrain = [{path = \"a,b.bin\", weight = 2.5}, {path = \"c.bin\"}]", "m.toml");
  ASSERT_EQ(list.size(), 2U);
  EXPECT_EQ(list[0].key, "data.train");
  EXPECT_EQ(list[0].value, (std::vector<std::string>{"a,b.bin", "c.bin"}));
  EXPECT_EQ(list[1].key, "data.weights");
  EXPECT_EQ(list[1].value, (std::vector<std::string>{"2.5", "1"}));
  const auto refused = [](const char* text) { return message_of<InputError>([&] { parse_toml(text, "m.toml"); }); };
  EXPECT_NE(refused("[data]\ntrain = [{path = \"a\"}, \"b\"]").find("m.toml:2: an item of 'data.train'"),
            std::string::npos);
  EXPECT_NE(refused("[data]\ntrain = [{path = \"a\", share = 1}]").find("other keys than"), std::string::npos);
  EXPECT_NE(refused("[data]\nval = [{path = \"a\"}]").find("neither a string"), std::string::npos);
}

}  // namespace
}  // namespace ufp4
