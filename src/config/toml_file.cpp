#include "config/toml_file.h"

#include <toml++/toml.h>

#include <charconv>

#include "config/key.h"
#include "config/toml_levels.h"
#include "io/file.h"
#include "io/tensor_name.h"
#include "ufp4/error.h"

namespace ufp4 {
namespace {

// A configuration is a page of text; more is another file given by mistake.
constexpr std::uint64_t kMaxConfigBytes = std::uint64_t{1} << 20;

// Messages quote keys and values; neither has more in a configuration.
constexpr std::size_t kMaxKeyBytes = 256;
constexpr std::size_t kMaxValueBytes = 4096;  // the longest path

std::string position(std::string_view source, const toml::source_position& at) {
  return std::string(source) + ":" + std::to_string(at.line);
}

std::string scalar_text(const toml::node& node, const std::string& key, const std::string& where) {
  if (const auto* text = node.as_string()) {
    if (text->get().size() <= kMaxValueBytes) return text->get();
    throw InputError(where + ": the value of '" + key + "' has " + std::to_string(text->get().size()) +
                     " bytes, expected at most " + std::to_string(kMaxValueBytes));
  }
  if (const auto* integer = node.as_integer()) return std::to_string(integer->get());
  if (const auto* real = node.as_floating_point()) return number_text(real->get());
  if (const auto* flag = node.as_boolean()) return flag->get() ? "true" : "false";
  throw InputError(where + ": the value of '" + key +
                   "' is neither a string, a number, a boolean nor an array of them");
}

// train = [{path = "a.bin", weight = 2}, ..] of [data], as its two lists: data.train and data.weights.
void add_sources(const toml::array& sources, const std::string& key, const std::string& where,
                 std::vector<Assignment>& out) {
  Assignment paths{key, {}, where, true};
  Assignment weights{"data.weights", {}, where, true};
  const auto fail = [&](const char* begin, const char* end) {
    std::string message = where;
    message.append(begin).append("'").append(key).append("'").append(end);
    throw InputError(message);
  };
  for (const toml::node& item : sources) {
    const toml::table* const source = item.as_table();
    const toml::node* const path = source != nullptr ? source->get("path") : nullptr;
    if (path == nullptr || !path->is_string()) {
      fail(": an item of ", " is no {path = \"..\", weight = ..} as others are");
    }
    const toml::node* const weight = source->get("weight");
    if (source->size() > (weight != nullptr ? 2U : 1U)) {
      fail(": a source of ", " has other keys than 'path' and 'weight'");
    }
    paths.value.push_back(scalar_text(*path, key, where));
    weights.value.push_back(weight != nullptr ? scalar_text(*weight, key, where) : "1");
  }
  out.push_back(std::move(paths));
  out.push_back(std::move(weights));
}

void flatten(const toml::table& table, const std::string& prefix, std::string_view source,
             std::vector<Assignment>& out) {
  for (const auto& [name, node] : table) {
    const std::string key = prefix + std::string(name.str());
    const std::string where = position(source, node.source().begin);
    if (key.size() > kMaxKeyBytes) {
      throw InputError(where + ": the key " + io::show_name(key) + " has " + std::to_string(key.size()) +
                       " bytes, expected at most " + std::to_string(kMaxKeyBytes));
    }
    if (const toml::table* inner = node.as_table()) {
      flatten(*inner, key + ".", source, out);
      continue;
    }
    Assignment assignment{key, {}, where, false};
    const toml::array* const sources = key == "data.train" ? node.as_array() : nullptr;
    if (sources != nullptr && !sources->empty() && sources->front().is_table()) {
      add_sources(*sources, key, where, out);
      continue;
    }
    if (const toml::array* array = node.as_array()) {
      assignment.array = true;
      for (const toml::node& item : *array) assignment.value.push_back(scalar_text(item, key, where));
    } else {
      assignment.value.push_back(scalar_text(node, key, where));
    }
    out.push_back(std::move(assignment));
  }
}

}  // namespace

std::string joined(const Assignment& assignment) { return joined(assignment.value); }

std::vector<Assignment> parse_toml(std::string_view text, std::string_view source) {
  // Both the parser and the tables that it makes recurse.
  if (const auto line = line_beyond(text, kMaxLevels)) {
    throw InputError(std::string(source) + ":" + std::to_string(*line) + ": tables and arrays nest deeper than " +
                     std::to_string(kMaxLevels) + " levels, expected settings");
  }
  std::vector<Assignment> list;
  try {
    flatten(toml::parse(text, source), "", source, list);
  } catch (const toml::parse_error& error) {
    throw InputError(position(source, error.source().begin) + ":" + std::to_string(error.source().begin.column) +
                     ": not valid TOML: " + std::string(error.description()));
  }
  return list;
}

std::vector<Assignment> read_toml(const std::filesystem::path& path) {
  return parse_toml(io::read_text_file(path, kMaxConfigBytes), path.string());
}

bool is_toml_path(std::string_view name) { return name.find('/') != name.npos || name.ends_with(".toml"); }

Assignment parse_override(std::string_view text, std::string_view where) {
  const std::size_t equals = text.find('=');
  if (equals == std::string_view::npos || equals == 0) {
    throw InputError(std::string(where) + " '" + std::string(text) + "': expected key=value");
  }
  return {std::string(text.substr(0, equals)), {std::string(text.substr(equals + 1))}, std::string(where), false};
}

std::string toml_quote(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += {'\\', c};
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) {
      constexpr std::string_view kDigits = "0123456789ABCDEF";
      out += "\\u00";
      out += kDigits[static_cast<unsigned char>(c) >> 4];
      out += kDigits[static_cast<unsigned char>(c) & 15];
    } else {
      out += c;
    }
  }
  return out + "\"";
}

std::string toml_scalar(std::string_view value) {
  if (value == "true" || value == "false") return std::string(value);
  std::int64_t integer = 0;
  const char* end = value.data() + value.size();
  if (std::from_chars(value.data(), end, integer).ptr == end && std::to_string(integer) == value)
    return std::string(value);
  double real = 0;
  const auto parsed = std::from_chars(value.data(), end, real);
  const bool looks_real =
      value.find_first_of(".e") != std::string_view::npos && value.find_first_not_of("0123456789.+-e") == value.npos;
  if (parsed.ec == std::errc() && parsed.ptr == end && looks_real && number_text(real) == value)
    return std::string(value);
  return toml_quote(value);
}

}  // namespace ufp4
