#include "whole_number.h"

#include <fmt/core.h>

#include <charconv>
#include <string>
#include <system_error>

namespace ufp4::app {

CLI::Validator whole_number(std::uint64_t least, std::uint64_t most) {
  const auto check = [least, most](std::string& text) -> std::string {
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || value < least || value > most) {
      return fmt::format("found '{}', expected a whole number from {} to {}", text, least, most);
    }
    text = std::to_string(value);  // without leading zeros, which would make it octal
    return {};
  };
  return CLI::Validator(check, "");
}

}  // namespace ufp4::app
