// One training run in its folder:
//   config.toml     every effective setting
//   run.json        versions, recipe, model, device, what multiplies, and the settings again
//   metrics.jsonl   train/metrics.h
//   analysis.jsonl  train/operand_analysis.h, with train.analyze_every
//   checkpoints/    train/checkpoint.h
//   result.json     when the run is done: steps, tokens, train_loss, val_loss, tokens_per_s
//   .lock           while a process trains (io/held_folder.h)
//
// The bits of losses and weights depend on the settings alone: not on the backend, not on whether the run was
// interrupted. (On a CPU also not on the time of day; another number of threads may change the order of torch's own
// sums.)
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "config/run_config.h"
#include "train/metrics.h"

namespace ufp4 {

// Told of what happens, on the thread that trains. Any may be empty.
struct TrainEvents {
  // The run's folder is there and this process alone writes to it, until train() returns.
  std::function<void(const std::filesystem::path&)> folder;
  std::function<void(const std::string&)> info;
  std::function<void(const std::string&)> warning;
  std::function<void(const StepMetrics&)> step;
  std::function<void(const Validation&)> validation;
};

struct TrainResult {
  bool finished = false;  // false: `stop` was set; a checkpoint of `step` is there
  std::int64_t step = 0;
  std::int64_t tokens = 0;
  std::int64_t skipped = 0;
  std::optional<double> train_loss;  // mean over the last 10 % of the steps
  std::optional<double> val_loss;    // after the last step
  double tokens_per_s = 0;           // median over the steps
};

// Trains until train.steps, from the newest good checkpoint in `folder` if there is one, or until `stop` is set: then
// the step at hand is finished and saved. A run that is done already returns its result at once.
//
// Throws InputError, before anything in `folder` changes, for data or settings that cannot work, for a run that will
// not fit into memory, for a folder that holds something else or a run with another configuration (the first key that
// differs, with both values), that another process holds, or whose checkpoints are all damaged. A folder in any state
// that a crash can leave is continued. Throws RunError for what fails underway, and when
// train.max_skipped steps in a row had a loss or gradient that was not finite.
TrainResult train(RunConfig config, const std::filesystem::path& folder, const TrainEvents& events,
                  const std::atomic<bool>& stop);

}  // namespace ufp4
