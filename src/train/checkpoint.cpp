#include "train/checkpoint.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>

#include <algorithm>

#include "io/checkpoint_folders.h"
#include "io/file.h"
#include "io/safetensors.h"
#include "ufp4/error.h"

namespace ufp4 {
namespace {

namespace fs = std::filesystem;

void save_tensors(const fs::path& file, const NamedTensors& tensors) {
  std::vector<io::TensorSpec> specs;
  for (const auto& [name, tensor] : tensors) specs.push_back({name, io::TensorType::kF32, tensor.sizes().vec()});
  io::SafetensorsWriter writer(file, std::move(specs));
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const at::Tensor host = tensors[i].second.detach().cpu().contiguous();
    writer.write(i, {static_cast<const std::byte*>(host.const_data_ptr()), host.nbytes()});
  }
  writer.commit();
}

}  // namespace

RunState read_state(const fs::path& checkpoint) {
  const fs::path file = checkpoint / "state.json";
  return parse_state(io::MappedFile(file).text(), file.string());
}

void load_tensors(const fs::path& file, const NamedTensors& tensors) {
  const at::NoGradGuard no_grad;
  const io::SafetensorsReader reader(file);
  for (const auto& [name, tensor] : tensors) {
    const io::TensorInfo& info = reader.at(name);
    if (info.type != io::TensorType::kF32 || info.shape != tensor.sizes().vec()) {
      throw InputError(file.string() + ": tensor '" + name + "' has another type or shape than the model's");
    }
    at::Tensor host = at::empty(tensor.sizes(), at::kFloat);
    reader.read(info, 0, {static_cast<std::byte*>(host.mutable_data_ptr()), host.nbytes()});
    at::Tensor target = tensor;  // shares storage
    target.copy_(host);
  }
  if (reader.tensors().size() != tensors.size()) {
    throw InputError(file.string() + ": holds " + std::to_string(reader.tensors().size()) + " tensors, expected " +
                     std::to_string(tensors.size()));
  }
}

CheckpointStore::CheckpointStore(fs::path folder, std::int64_t keep, Check check)
    : folder_(std::move(folder)), keep_(keep), check_(std::move(check)) {}

std::vector<std::int64_t> CheckpointStore::steps() const {
  return io::exists_at(folder_) ? io::checkpoint_steps(folder_) : std::vector<std::int64_t>();
}

fs::path CheckpointStore::path_of(std::int64_t step) const { return io::checkpoint_path(folder_, step); }

void CheckpointStore::remove_remains() const {
  if (!io::exists_at(folder_)) return;
  const std::string hidden = "." + std::string(io::kCheckpointPrefix);
  for (const fs::directory_entry& entry : fs::directory_iterator(folder_)) {
    if (entry.path().filename().string().starts_with(hidden)) fs::remove_all(entry.path());
  }
}

// Hidden first, so that a removal that is cut short leaves nothing that looks like a checkpoint.
void CheckpointStore::remove(const fs::path& checkpoint) const {
  const fs::path hidden = folder_ / ("." + checkpoint.filename().string() + ".old");
  fs::remove_all(hidden);
  fs::rename(checkpoint, hidden);
  fs::remove_all(hidden);
}

// Its state, once it is proved to be whole, called as its step, and of this run. Throws InputError, or what the file
// system says.
RunState CheckpointStore::examine(std::int64_t step) const {
  const fs::path checkpoint = path_of(step);
  io::verify_checkpoint(checkpoint);
  RunState state = read_state(checkpoint);
  if (state.step != step) {
    throw InputError(checkpoint.string() + " is of step " + std::to_string(state.step) + ", expected " +
                     std::to_string(step) + " as its name says");
  }
  if (check_) check_(checkpoint, state);
  return state;
}

bool CheckpointStore::is_proved(std::int64_t step) {
  if (proved_.contains(step)) return true;
  if (refused_.contains(step)) return false;
  try {
    examine(step);
    proved_.insert(step);
    return true;
  } catch (const InputError&) {
    return false;
  } catch (const fs::filesystem_error&) {
    return false;
  }
}

// For the checkpoint of a step whose name is taken. What was refused is good for nothing here if it is damaged, but may
// be all that another run has.
void CheckpointStore::make_room(std::int64_t step) const {
  const fs::path taken = path_of(step);
  if (!io::exists_at(taken)) return;
  bool damaged = false;
  if (fs::symlink_status(taken).type() == fs::file_type::directory && !proved_.contains(step)) {
    try {
      io::verify_checkpoint(taken);
    } catch (const InputError&) {
      damaged = true;
    }
  }
  if (damaged || proved_.contains(step)) return remove(taken);
  const std::string name = "refused-" + taken.filename().string();
  fs::path aside = folder_ / name;
  for (int number = 2; io::exists_at(aside); ++number) aside = folder_ / (name + "-" + std::to_string(number));
  fs::rename(taken, aside);
}

void CheckpointStore::remove_old(std::int64_t newest) {
  std::int64_t kept = 1;
  std::vector<std::int64_t> all = steps();
  std::reverse(all.begin(), all.end());
  for (const std::int64_t step : all) {
    if (step == newest || !is_proved(step) || kept++ < keep_) continue;
    remove(path_of(step));
    proved_.erase(step);
  }
}

void CheckpointStore::save(const RunState& state, const std::string& config_toml, const NamedTensors& weights,
                           const NamedTensors& optimizer) {
  const fs::path target = path_of(state.step);
  const fs::path temporary = folder_ / ("." + target.filename().string() + ".new");
  try {
    io::make_folder(folder_);
    fs::remove_all(temporary);
    io::make_folder(temporary);
    io::atomic_write_file(temporary / "config.toml", config_toml, io::Links::kRefuse);
    save_tensors(temporary / "model.safetensors", weights);
    save_tensors(temporary / "optimizer.safetensors", optimizer);
    io::atomic_write_file(temporary / "state.json", state_text(state), io::Links::kRefuse);
    io::atomic_write_file(temporary / io::kCheckpointManifest, io::checkpoint_manifest(temporary), io::Links::kRefuse);
    io::sync_folder(temporary);
    make_room(state.step);
    fs::rename(temporary, target);
    io::sync_folder(folder_);
  } catch (const std::exception& error) {
    std::error_code ignored;
    fs::remove_all(temporary, ignored);
    throw RunError(
        "saving the checkpoint of step " + std::to_string(state.step) + " failed: " + error.what() +
        (proved_.empty() ? "; there is no earlier one" : "; the last one is " + path_of(*proved_.rbegin()).string()));
  }
  proved_.insert(state.step);
  refused_.erase(state.step);
  remove_old(state.step);
}

std::optional<RunState> CheckpointStore::load_newest(const NamedTensors& weights, const NamedTensors& optimizer,
                                                     const Warn& warn,
                                                     const std::function<void(const RunState&)>& adopt) {
  const auto tell = [&](const std::string& message) {
    if (warn) warn(message);
  };
  std::vector<std::int64_t> all = steps();
  if (io::exists_at(folder_)) {
    for (const fs::path& stray : io::stray_checkpoints(folder_)) {
      tell(stray.string() + " is passed over: a checkpoint is a folder called as " + path_of(123).filename().string());
    }
  }
  std::reverse(all.begin(), all.end());
  std::string newest;  // why it was refused
  const auto refuse = [&](std::int64_t step, const std::exception& error) {
    refused_.insert(step);
    if (newest.empty()) newest = error.what();
    tell("checkpoint refused: " + std::string(error.what()));
  };
  for (const std::int64_t step : all) {
    const fs::path checkpoint = path_of(step);
    try {
      RunState state = examine(step);
      load_tensors(checkpoint / "model.safetensors", weights);
      load_tensors(checkpoint / "optimizer.safetensors", optimizer);
      if (adopt) adopt(state);
      proved_.insert(step);
      return state;
    } catch (const InputError& error) {
      refuse(step, error);
    } catch (const fs::filesystem_error& error) {
      refuse(step, error);
    }
  }
  if (all.empty()) return std::nullopt;
  throw InputError(folder_.string() + ": none of the " + std::to_string(all.size()) +
                   " checkpoints can be used; of the newest: " + newest + "; move the folder away to start anew");
}

}  // namespace ufp4
