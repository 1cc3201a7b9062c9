// Checkpoints of a run: folders step-00000123/ with
//   config.toml            the run's settings
//   model.safetensors      FP32 weights
//   optimizer.safetensors  moments and number of updates
//   state.json             step, tokens, position in the data, counters
//   manifest.json          size and checksum of each of these files
// A folder is written under a hidden name, synced to the disk and renamed: one with its proper name is complete.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "train/checkpoint_text.h"

namespace ufp4 {

using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

class CheckpointStore {
 public:
  // `keep`: how many of the newest stay. Remains of a save that was killed are removed.
  CheckpointStore(std::filesystem::path folder, std::int64_t keep);

  // Throws RunError (a full disk); what was there before then stays, and the message says what that is.
  void save(const RunState& state, const std::string& config_toml, const NamedTensors& weights,
            const NamedTensors& optimizer);

  // Loads the newest checkpoint that is whole into the tensors, in place. `warn` is told of each newer one that is
  // damaged: file, what was found, what was expected. Nothing if there are no checkpoints at all; throws InputError if
  // there are some but none is good.
  std::optional<RunState> load_newest(const NamedTensors& weights, const NamedTensors& optimizer,
                                      const std::function<void(const std::string&)>& warn) const;

  // The steps of the checkpoints, ascending, damaged ones too.
  std::vector<std::int64_t> steps() const;
  std::filesystem::path path_of(std::int64_t step) const;

 private:
  void remove(const std::filesystem::path& checkpoint) const;

  std::filesystem::path folder_;
  std::int64_t keep_;
};

// Throws InputError that names the first file that is missing or whose size or checksum is not the manifest's.
void verify_checkpoint(const std::filesystem::path& checkpoint);

RunState read_state(const std::filesystem::path& checkpoint);

// Reads the tensors of a safetensors file into `tensors`, in place and on any device. Throws InputError for one that is
// missing, unknown, or of another type or shape.
void load_tensors(const std::filesystem::path& file, const NamedTensors& tensors);

}  // namespace ufp4
