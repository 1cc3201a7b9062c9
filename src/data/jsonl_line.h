// One line of a JSONL file.
#pragma once

#include <string>
#include <string_view>

namespace ufp4::data {

// The string "text" of the object on a line. Other fields are ignored, whatever numbers, escapes and nesting they hold;
// they only have to be JSON. The stack does not grow with the nesting. InputError that starts with `where` for a line
// that is no JSON object, or has no "text", two, or one that is no string.
std::string read_text_field(std::string_view line, const std::string& where);

}  // namespace ufp4::data
