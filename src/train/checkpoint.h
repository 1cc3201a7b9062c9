// Checkpoints of a run: folders step-00000123/ with
//   config.toml            the run's settings
//   model.safetensors      FP32 weights
//   optimizer.safetensors  moments and number of updates
//   state.json             step, tokens, position in the data, counters
//   manifest.json          size and checksum of each of these files
// A folder is written under a hidden name, synced to the disk and renamed: one with its proper name is complete
// (io/checkpoint_folders.h says how they are called, and proves that one is whole).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "train/checkpoint_text.h"

namespace ufp4 {

using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

// Told of what is passed over: what was found, and what was expected.
using Warn = std::function<void(const std::string&)>;

class CheckpointStore {
 public:
  // Throws InputError for a checkpoint that is whole and of another run.
  using Check = std::function<void(const std::filesystem::path& checkpoint, const RunState&)>;

  // `keep`: how many whole ones of this run stay. Changes nothing yet.
  CheckpointStore(std::filesystem::path folder, std::int64_t keep, Check check = {});

  // Removes what a killed save or a killed removal left.
  void remove_remains() const;

  // Makes the folder if there is none. Throws RunError (a full disk); what was there before then stays, and the message
  // says what that is. A damaged checkpoint of this step is replaced, one of another run set aside as
  // refused-step-XXXXXXXX. Afterwards the oldest go that are more than `keep`: only those count, and only those are
  // removed, which were read from end to end and are of this run. The one just written stays always.
  void save(const RunState& state, const std::string& config_toml, const NamedTensors& weights,
            const NamedTensors& optimizer);

  // Loads the newest checkpoint that is whole and of this run into the tensors, in place; `adopt` is given its state
  // and may refuse it by an InputError. `warn` is told of each newer one that is refused, and of stray names. Nothing
  // if there are no checkpoints at all; throws InputError if there are some but none is good.
  std::optional<RunState> load_newest(const NamedTensors& weights, const NamedTensors& optimizer, const Warn& warn,
                                      const std::function<void(const RunState&)>& adopt = {});

  // The steps of the checkpoints, ascending, damaged ones too.
  std::vector<std::int64_t> steps() const;
  std::filesystem::path path_of(std::int64_t step) const;

 private:
  RunState examine(std::int64_t step) const;
  bool is_proved(std::int64_t step);
  void make_room(std::int64_t step) const;
  void remove(const std::filesystem::path& checkpoint) const;
  void remove_old(std::int64_t newest);

  std::filesystem::path folder_;
  std::int64_t keep_;
  Check check_;
  std::set<std::int64_t> proved_;   // whole and of this run
  std::set<std::int64_t> refused_;  // by load_newest
};

RunState read_state(const std::filesystem::path& checkpoint);

// Reads the tensors of a safetensors file into `tensors`, in place and on any device. Throws InputError for one that is
// missing, unknown, or of another type or shape.
void load_tensors(const std::filesystem::path& file, const NamedTensors& tensors);

}  // namespace ufp4
