#include "io/json.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "io/file.h"
#include "io/tensor_name.h"
#include "ufp4/error.h"

namespace ufp4::io {
namespace {

using Json = nlohmann::json;

[[noreturn]] void refuse(std::string_view where, const std::string& why) {
  throw InputError("'" + std::string(where) + "': " + why);
}

const Json& value_of(const Json& object, const char* key, std::string_view where) {
  if (!object.is_object()) refuse(where, std::string("expected an object, found ") + object.type_name());
  const auto found = object.find(key);
  if (found == object.end()) refuse(where, std::string("the key '") + key + "' is missing");
  return *found;
}

[[noreturn]] void refuse_value(const Json& value, const char* key, std::string_view where, const char* expected) {
  refuse(where, std::string("the key '") + key + "' is " + show_name(value.dump()) + ", expected " + expected);
}

}  // namespace

Json parse_json(std::string_view text, std::string_view where, const JsonLimits& limits) {
  if (text.size() > limits.bytes) {
    refuse(where, "it has " + std::to_string(text.size()) + " bytes, more than the " + std::to_string(limits.bytes) +
                      " that such a file may have");
  }
  // The library takes a zero byte for the end of its input.
  if (const std::size_t zero = text.find('\0'); zero != std::string_view::npos) {
    refuse(where, "not valid JSON: a zero byte at byte " + std::to_string(zero + 1));
  }
  const auto bounded = [&](int depth, Json::parse_event_t event, Json&) {
    const bool opens = event == Json::parse_event_t::object_start || event == Json::parse_event_t::array_start;
    if (opens && depth >= limits.depth) {
      refuse(where, "objects and lists nested more than " + std::to_string(limits.depth) + " deep");
    }
    return true;
  };
  try {
    return Json::parse(text.begin(), text.end(), bounded);
  } catch (const Json::parse_error& error) {
    refuse(where, "not valid JSON at byte " + std::to_string(error.byte) + ": " + json_reason(error.what()));
  } catch (const Json::exception& error) {
    refuse(where, "not valid JSON: " + json_reason(error.what()));
  }
}

Json read_json(const std::filesystem::path& path, const JsonLimits& limits) {
  const MappedFile file(path);
  return parse_json(file.text(), path.string(), limits);
}

std::string json_reason(std::string_view what) {
  // "[json.exception.parse_error.101] parse error at line 1, column 9: REASON; last read: 'TEXT'; expected ..": the
  // text may be long, or no text at all.
  if (const auto code = what.find("] "); what.starts_with('[') && code != std::string_view::npos) {
    what.remove_prefix(code + 2);
  }
  if (const auto column = what.find("column"); what.starts_with("parse error at") && column != std::string_view::npos) {
    what.remove_prefix(std::min(what.size(), what.find(": ", column) + 2));
  }
  what = what.substr(0, what.find("; last read"));
  constexpr std::size_t kMost = 120;  // a number may have any length
  return what.size() <= kMost ? std::string(what) : std::string(what.substr(0, kMost)) + "..";
}

std::int64_t whole_number(const Json& object, const char* key, std::string_view where) {
  const Json& value = value_of(object, key, where);
  if (!value.is_number_unsigned() ||
      value.get<std::uint64_t>() > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
    refuse_value(value, key, where, "a whole number from 0 to 2^63 - 1");
  }
  return value.get<std::int64_t>();
}

std::string text_value(const Json& object, const char* key, std::string_view where) {
  const Json& value = value_of(object, key, where);
  if (!value.is_string()) refuse_value(value, key, where, "a string");
  return value.get<std::string>();
}

}  // namespace ufp4::io
