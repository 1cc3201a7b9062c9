// The manifest.json of a checkpoint, as a value and as text.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace ufp4::io {

struct FileFacts {
  std::int64_t bytes = 0;
  std::string xxh128;

  bool operator==(const FileFacts&) const = default;
};

// The files of a checkpoint by name.
using Manifest = std::map<std::string, FileFacts>;

std::string manifest_text(const Manifest& manifest);

// Throws InputError that starts with `where`, for any text that is no manifest of this version.
Manifest parse_manifest(std::string_view text, std::string_view where);

}  // namespace ufp4::io
