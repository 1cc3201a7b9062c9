// Names of tensors: which ones are accepted, and how a message shows one.
#pragma once

#include <string>
#include <string_view>

namespace ufp4::io {

inline constexpr std::string_view kMetadataKey = "__metadata__";

// The end of the sentence "its name ..", or nothing if the name is good: not empty, not __metadata__, of at most
// kMaxNameBytes bytes of UTF-8, without control characters (a terminal would obey them).
std::string why_bad_name(std::string_view name);

// 'name', with control characters spelled out and a long middle left out: safe to print, whatever the name holds.
std::string show_name(std::string_view name);

// The text with control characters spelled out, line breaks among them: what a file holds cannot steer a terminal.
std::string printable(std::string_view text);

}  // namespace ufp4::io
