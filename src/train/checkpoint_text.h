// The two JSON files of a checkpoint, state.json and manifest.json, as values and as text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "io/checkpoint_manifest.h"

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

using io::FileFacts;
using io::Manifest;
using io::manifest_text;
using io::parse_manifest;

}  // namespace ufp4
