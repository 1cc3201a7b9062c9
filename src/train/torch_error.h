// What torch throws, as the project's own errors.
#pragma once

#include <c10/util/Exception.h>

#include <string>

namespace ufp4 {

// Throws RunError with the first line of what torch says, without its stack; where memory has run out, on the device or
// on the host, also with `what_helps`.
[[noreturn]] void throw_plain(const c10::Error& error, const std::string& what_helps);

}  // namespace ufp4
