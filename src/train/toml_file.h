// TOML files as flat lists of `key = value`: tables become prefixes of the keys, `[a] b = 1` is "a.b".
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ufp4 {

// One key with its value as text: a scalar has one item, an array as many as it has elements.
struct Assignment {
  std::string key;
  std::vector<std::string> value;
  std::string where;  // for messages: "tiny.toml:3", "--set"
};

// The value as one text, a list with commas between its items.
std::string joined(const Assignment& assignment);

// `source` names the text in messages. Throws InputError with line and column for text that is not TOML, and for values
// other than strings, numbers, booleans and arrays of them.
std::vector<Assignment> parse_toml(std::string_view text, std::string_view source);

std::vector<Assignment> read_toml(const std::filesystem::path& path);

// "key=value" as the command line gives it. Throws InputError if there is no '='.
Assignment parse_override(std::string_view text, std::string_view where);

// The text of a TOML string.
std::string toml_quote(std::string_view text);

// `value` bare if it is a number or boolean that TOML reads back to the same text, else quoted.
std::string toml_scalar(std::string_view value);

// The shortest text that reads back to the same number.
std::string number_text(double value);

}  // namespace ufp4
