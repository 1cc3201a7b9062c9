#include "config/toml_levels.h"

#include <algorithm>
#include <vector>

namespace ufp4 {
namespace {

// The offset behind the string that begins at `begin`; of a string that a line break cuts off, that of the break.
std::size_t end_of_string(std::string_view text, std::size_t begin) {
  const char quote = text[begin];
  const std::string_view triple = quote == '"' ? R"(""")" : "'''";
  const bool many_lines = text.substr(begin).starts_with(triple);
  for (std::size_t i = begin + (many_lines ? 3 : 1); i < text.size(); ++i) {
    if (quote == '"' && text[i] == '\\') {
      ++i;
    } else if (many_lines && text.substr(i).starts_with(triple)) {
      i += 3;
      // Up to two quotes before the last three belong to the text.
      for (int k = 0; k < 2 && i < text.size() && text[i] == quote; ++k) ++i;
      return i;
    } else if (!many_lines && text[i] == quote) {
      return i + 1;
    } else if (!many_lines && text[i] == '\n') {
      return i;
    }
  }
  return text.size();
}

// What is open at one place of the text.
struct Levels {
  std::size_t header = 0;         // parts of the header above
  bool in_header = false;         // the line is one
  bool line_begun = false;        // outside brackets: something stands before on this line
  std::vector<std::size_t> open;  // for each bracket, the levels around it
  std::size_t around = 0;         // levels of the brackets and of the keys that led to them
  std::size_t dots = 0;           // of the key at hand

  std::size_t count() const { return in_header ? dots + 1 : header + around + dots; }

  void end_line() {
    if (!open.empty()) return;
    if (in_header) header = dots + 1;
    in_header = line_begun = false;
    dots = 0;
  }

  void see(char c) {
    if (c == ' ' || c == '\t' || c == '\r') return;
    if (c == '[' && open.empty() && !line_begun) {
      in_header = true;
      header = 0;
    }
    line_begun = true;
    if (c == '.') ++dots;
    if (in_header) return;
    if (c == ',') dots = 0;
    if (c == '[' || c == '{') {
      open.push_back(around);
      around += dots + 1;
      dots = 0;
    }
    if ((c == ']' || c == '}') && !open.empty()) {
      around = open.back();
      open.pop_back();
      dots = 0;
    }
  }
};

}  // namespace

std::optional<std::size_t> line_beyond(std::string_view toml, std::size_t limit) {
  Levels levels;
  std::size_t line = 1;
  for (std::size_t i = 0; i < toml.size();) {
    const char c = toml[i];
    if (c == '\n') {
      levels.end_line();
      ++line;
      ++i;
    } else if (c == '#') {
      i = std::min(toml.find('\n', i), toml.size());
    } else if (c == '"' || c == '\'') {
      const std::size_t end = end_of_string(toml, i);
      line += static_cast<std::size_t>(std::count(toml.begin() + static_cast<std::ptrdiff_t>(i),
                                                  toml.begin() + static_cast<std::ptrdiff_t>(end), '\n'));
      levels.line_begun = true;
      i = end;
    } else {
      levels.see(c);
      if (levels.count() > limit) return line;
      ++i;
    }
  }
  return std::nullopt;
}

}  // namespace ufp4
