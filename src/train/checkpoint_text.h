// The two JSON files of a checkpoint, state.json and manifest.json, as values and as text.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace ufp4 {

// Where a run stands, but for its tensors. Random bits are functions of seed and step, so the step is their state.
struct RunState {
  std::int64_t step = 0;  // done
  std::int64_t tokens = 0;
  std::int64_t skipped = 0;         // steps without an update, in all
  std::int64_t skipped_in_row = 0;  // just now
  std::string data;                 // Dataset::state()
  std::string data_fingerprint;
};

std::string state_text(const RunState& state);

// Throws InputError that starts with `where`, for any text that is no state.
RunState parse_state(std::string_view text, std::string_view where);

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

}  // namespace ufp4
