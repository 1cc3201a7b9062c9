// How deep the tables and arrays of a TOML text nest, without parsing it.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

namespace ufp4 {

// The first line at which more than `limit` levels are open; nothing if there is none. A level is a part of a dotted
// key or header, an array, or an inline table. Text that is not TOML may be counted wrongly behind its first error,
// where a parser stops.
std::optional<std::size_t> line_beyond(std::string_view toml, std::size_t limit);

}  // namespace ufp4
