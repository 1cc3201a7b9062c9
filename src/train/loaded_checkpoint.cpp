#include "train/loaded_checkpoint.h"

#include <ATen/ops/empty.h>

#include <algorithm>

#include "data/dataset.h"
#include "io/checkpoint_folders.h"
#include "train/checkpoint.h"
#include "train/device.h"
#include "ufp4/error.h"

namespace ufp4 {
namespace {

namespace fs = std::filesystem;

// Of a comparison: that one of its runs is meant, with an example; else nothing.
std::string hint_at_runs(const fs::path& path) {
  std::vector<fs::path> runs;
  if (fs::is_directory(path / "runs")) {
    for (const fs::directory_entry& entry : fs::directory_iterator(path / "runs")) runs.push_back(entry.path());
  }
  if (runs.empty()) return {};
  return "; name one of the runs in it, such as '" + std::min_element(runs.begin(), runs.end())->string() + "'";
}

// The checkpoint at `path`, or the newest of the run at `path`.
fs::path checkpoint_folder(const fs::path& path) {
  if (fs::exists(path / "model.safetensors")) return path;
  if (fs::is_directory(path / "checkpoints")) {
    const std::vector<std::int64_t> steps = io::checkpoint_steps(path / "checkpoints");
    if (!steps.empty()) return io::checkpoint_path(path / "checkpoints", steps.back());
  }
  throw InputError("'" + path.string() +
                   "' is no checkpoint (no model.safetensors in it) and no run folder with one (no checkpoints/)" +
                   hint_at_runs(path));
}

}  // namespace

LoadedCheckpoint::LoadedCheckpoint(const BatchSettings& settings, std::span<const Recipe> recipes)
    : device_(at::kCPU), folder_(checkpoint_folder(settings.checkpoint)) {
  io::verify_checkpoint(folder_);
  config_ = make_run_config(read_toml(folder_ / "config.toml"));
  const DeviceChoice choice = choose_device(settings.device, "--device", config_.model, recipes);
  device_ = choice.device;
  if (settings.log) settings.log(choice.note.empty() ? "on " + choice.name() : choice.note);
  step_ = read_state(folder_).step;

  DataConfig data;
  data.train_files = !settings.data.empty()      ? settings.data
                     : !config_.data.val.empty() ? config_.data.val
                                                 : config_.data.train;
  data.val_fraction = 0;
  data.sequence_length = config_.model.context;
  data.seed = static_cast<std::uint64_t>(config_.train.seed);
  const std::unique_ptr<Dataset> dataset = Dataset::open(data);
  if (dataset->vocab_size() > config_.model.vocab_size) {
    throw InputError("the data has " + std::to_string(dataset->vocab_size()) + " different tokens, the model of '" +
                     folder_.string() + "' knows " + std::to_string(config_.model.vocab_size));
  }
  const at::Tensor tokens = at::empty({settings.sequences, config_.model.context + 1}, at::kInt);
  dataset->next({tokens.mutable_data_ptr<std::int32_t>(), static_cast<std::size_t>(tokens.numel())});
  tokens_ = tokens.to(device_, at::kLong);
}

Transformer LoadedCheckpoint::model(const Recipe& recipe) const {
  Transformer model(config_.model, recipe, {.seed = 0, .device = device_, .stash = Stash::kPacked});
  NamedTensors weights;
  for (const NamedParameter& parameter : model.parameters()) weights.emplace_back(parameter.name, parameter.tensor);
  load_tensors(folder_ / "model.safetensors", weights);
  return model;
}

std::string fewer_sequences(const BatchSettings& settings) {
  return "fewer sequences (" + std::to_string(settings.sequences) + ")" +
         (settings.sequences > 1 ? "" : " there cannot be: a device with more memory");
}

}  // namespace ufp4
