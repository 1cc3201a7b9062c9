// The closest of a list of names to a mistyped one, for error messages.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace ufp4 {

// The name of `known` with the least edit distance to `name` if that is at most a third of the length (and at least
// one edit is always allowed); empty if none is near.
std::string_view near_name(std::string_view name, std::span<const std::string_view> known);

// " (did you mean 'x'?)" or "; known: a, b, c": to append to "unknown thing 'y'".
std::string name_hint(std::string_view name, std::span<const std::string_view> known);

}  // namespace ufp4
