// A check of command line values: CLI11 alone wraps "-1" around and reads "010" as eight.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <limits>

namespace ufp4::app {

// Accepts decimal digits with a value in [least, most].
CLI::Validator whole_number(std::uint64_t least = 0, std::uint64_t most = std::numeric_limits<std::uint64_t>::max());

}  // namespace ufp4::app
