// TOML files as flat lists of `key = value`: tables become prefixes of the keys, `[a] b = 1` is "a.b".
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace ufp4 {

// One key with its value as text: a scalar has one item, an array as many as it has elements.
struct Assignment {
  std::string key;
  std::vector<std::string> value;
  std::string where;   // for messages: "tiny.toml:3", "--set"
  bool array = false;  // whether TOML gave it as an array, of whatever length
};

// The value as one text, a list with commas between its items.
std::string joined(const Assignment& assignment);

// `source` names the text in messages. Throws InputError with line and column for text that is not TOML, and for values
// other than strings, numbers, booleans and arrays of them. Text whose tables and arrays nest beyond kMaxLevels is
// refused before it is parsed.
std::vector<Assignment> parse_toml(std::string_view text, std::string_view source);

inline constexpr std::size_t kMaxLevels = 32;

// Throws InputError for what is not a regular file, and for a file above 1 MiB.
std::vector<Assignment> read_toml(const std::filesystem::path& path);

// Whether a name of a recipe or a model is the path of a file: anything with a '/' or that ends in ".toml".
bool is_toml_path(std::string_view name);

// "key=value" as the command line gives it. Throws InputError if there is no '='.
Assignment parse_override(std::string_view text, std::string_view where);

// The text of a TOML string.
std::string toml_quote(std::string_view text);

// `value` bare if it is a number or boolean that TOML reads back to the same text, else quoted.
std::string toml_scalar(std::string_view value);

}  // namespace ufp4
