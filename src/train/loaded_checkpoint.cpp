#include "train/loaded_checkpoint.h"

#include <ATen/ops/empty.h>

#include "data/dataset.h"
#include "io/checkpoint_folders.h"
#include "io/tokenizer_file.h"
#include "train/carried_tokenizer.h"
#include "train/checkpoint.h"
#include "train/device.h"
#include "ufp4/error.h"

namespace ufp4 {

LoadedCheckpoint::LoadedCheckpoint(const BatchSettings& settings, std::span<const Recipe> recipes)
    : device_(at::kCPU), folder_(io::find_checkpoint(settings.checkpoint)) {
  io::verify_checkpoint(folder_);
  config_ = make_run_config(read_toml(folder_ / "config.toml"));
  const DeviceChoice choice = choose_device(settings.device, "--device", config_.model, recipes);
  device_ = choice.device;
  if (settings.log) settings.log(choice.note.empty() ? "on " + choice.name() : choice.note);
  const RunState state = read_state(folder_);
  step_ = state.step;
  if (settings.data.empty() && state.data_fingerprint.empty()) {
    throw InputError("'" + folder_.string() + "' is an imported model, which has no data of its own: give --data");
  }

  DataConfig data;
  data.train_files = !settings.data.empty()      ? settings.data
                     : !config_.data.val.empty() ? config_.data.val
                                                 : config_.data.train;
  data.tokens = {config_.data.format, config_.data.vocab_size, config_.data.separator};
  data.val_fraction = 0;
  data.sequence_length = config_.model.context;
  data.seed = static_cast<std::uint64_t>(config_.train.seed);
  const std::unique_ptr<Dataset> dataset = Dataset::open(data);
  if (dataset->vocab_size() > config_.model.vocab_size) {
    throw InputError("the data has " + std::to_string(dataset->vocab_size()) + " different tokens, the model of '" +
                     folder_.string() + "' knows " + std::to_string(config_.model.vocab_size));
  }
  check_tokenizer(io::tokenizer_of(folder_), folder_.string(), *dataset, data.train_files.front());
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
