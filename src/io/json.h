// JSON within limits: what is too large, too deep or no JSON is an InputError, whatever wrote it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace ufp4::io {

struct JsonLimits {
  // Of what a run writes about itself, nothing comes near.
  std::uint64_t bytes = std::uint64_t{1} << 20;
  // Objects and lists within one another. The library copies and prints values by recursion: a depth without a limit
  // could end the process.
  int depth = 64;
};

// The value of a whole text. `where` (a path) starts every message.
nlohmann::json parse_json(std::string_view text, std::string_view where, const JsonLimits& limits = {});

nlohmann::json read_json(const std::filesystem::path& path, const JsonLimits& limits = {});

// What an exception of the library says, in one line, without its codes and without the text that was read.
std::string json_reason(std::string_view what);

// A whole number that the object has under `key`, from 0 to 2^63 - 1. InputError names the key.
std::int64_t whole_number(const nlohmann::json& object, const char* key, std::string_view where);

// A string that the object has under `key`.
std::string text_value(const nlohmann::json& object, const char* key, std::string_view where);

}  // namespace ufp4::io
