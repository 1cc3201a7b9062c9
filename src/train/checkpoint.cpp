#include "train/checkpoint.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "io/checkpoint_folders.h"
#include "io/checksum.h"
#include "io/file.h"
#include "io/safetensors.h"
#include "io/tensor_name.h"
#include "ufp4/error.h"

namespace ufp4 {
namespace {

namespace fs = std::filesystem;

constexpr std::array<const char*, 4> kFiles{"config.toml", "model.safetensors", "optimizer.safetensors", "state.json"};
constexpr const char* kManifest = "manifest.json";

void sync_folder(const fs::path& folder) {
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const bool synced = descriptor >= 0 && ::fsync(descriptor) == 0;
  const int error = errno;
  if (descriptor >= 0) ::close(descriptor);
  if (!synced) throw RunError(folder.string() + ": cannot be synced to the disk: " + std::strerror(error));
}

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

FileFacts describe_file(const fs::path& file) {
  return {static_cast<std::int64_t>(fs::file_size(file)), io::checksum_of_file(file)};
}

Manifest make_manifest(const fs::path& checkpoint) {
  Manifest files;
  for (const char* name : kFiles) files[name] = describe_file(checkpoint / name);
  return files;
}

std::string text_of(const FileFacts& facts) {
  return std::to_string(facts.bytes) + " bytes of xxh128 " + io::show_name(facts.xxh128);
}

}  // namespace

void verify_checkpoint(const fs::path& checkpoint) {
  const fs::path manifest_path = checkpoint / kManifest;
  const Manifest manifest = parse_manifest(io::MappedFile(manifest_path).text(), manifest_path.string());
  for (const char* name : kFiles) {
    const fs::path file = checkpoint / name;
    if (!fs::is_regular_file(file)) throw InputError(file.string() + " is missing");
    const FileFacts found = describe_file(file);
    const auto expected = manifest.find(name);
    if (expected == manifest.end() || found != expected->second) {
      throw InputError(file.string() + " is damaged: found " + text_of(found) + ", " + manifest_path.string() +
                       " says " + (expected == manifest.end() ? "nothing of it" : text_of(expected->second)));
    }
  }
  if (manifest.size() != kFiles.size()) {
    throw InputError(manifest_path.string() + " is not a manifest of this version: it names " +
                     std::to_string(manifest.size()) + " files, expected " + std::to_string(kFiles.size()));
  }
}

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

CheckpointStore::CheckpointStore(fs::path folder, std::int64_t keep) : folder_(std::move(folder)), keep_(keep) {
  fs::create_directories(folder_);
  for (const fs::directory_entry& entry : fs::directory_iterator(folder_)) {
    if (entry.path().filename().string().starts_with("." + std::string(io::kCheckpointPrefix)))
      fs::remove_all(entry.path());
  }
}

std::vector<std::int64_t> CheckpointStore::steps() const { return io::checkpoint_steps(folder_); }

fs::path CheckpointStore::path_of(std::int64_t step) const { return io::checkpoint_path(folder_, step); }

// Hidden first, so that a removal that is cut short leaves nothing that looks like a checkpoint.
void CheckpointStore::remove(const fs::path& checkpoint) const {
  const fs::path hidden = folder_ / ("." + checkpoint.filename().string() + ".old");
  fs::remove_all(hidden);
  fs::rename(checkpoint, hidden);
  fs::remove_all(hidden);
}

void CheckpointStore::save(const RunState& state, const std::string& config_toml, const NamedTensors& weights,
                           const NamedTensors& optimizer) {
  const fs::path target = path_of(state.step);
  const fs::path temporary = folder_ / ("." + target.filename().string() + ".new");
  try {
    fs::remove_all(temporary);
    fs::create_directory(temporary);
    io::atomic_write_file(temporary / "config.toml", config_toml);
    save_tensors(temporary / "model.safetensors", weights);
    save_tensors(temporary / "optimizer.safetensors", optimizer);
    io::atomic_write_file(temporary / "state.json", state_text(state));
    io::atomic_write_file(temporary / kManifest, manifest_text(make_manifest(temporary)));
    sync_folder(temporary);
    if (fs::exists(target)) remove(target);  // a damaged one that was passed over
    fs::rename(temporary, target);
    sync_folder(folder_);
  } catch (const std::exception& error) {
    std::error_code ignored;
    fs::remove_all(temporary, ignored);
    const std::vector<std::int64_t> good = steps();
    throw RunError("saving the checkpoint of step " + std::to_string(state.step) + " failed: " + error.what() +
                   (good.empty() ? "; there is no earlier one" : "; the last one is " + path_of(good.back()).string()));
  }
  const std::vector<std::int64_t> all = steps();
  for (std::size_t i = 0; i + static_cast<std::size_t>(keep_) < all.size(); ++i) remove(path_of(all[i]));
}

std::optional<RunState> CheckpointStore::load_newest(const NamedTensors& weights, const NamedTensors& optimizer,
                                                     const std::function<void(const std::string&)>& warn) const {
  std::vector<std::int64_t> all = steps();
  std::reverse(all.begin(), all.end());
  for (const std::int64_t step : all) {
    const fs::path checkpoint = path_of(step);
    try {
      verify_checkpoint(checkpoint);
      RunState state = read_state(checkpoint);
      load_tensors(checkpoint / "model.safetensors", weights);
      load_tensors(checkpoint / "optimizer.safetensors", optimizer);
      return state;
    } catch (const InputError& error) {
      warn("checkpoint refused: " + std::string(error.what()));
    } catch (const fs::filesystem_error& error) {
      warn("checkpoint refused: " + std::string(error.what()));
    }
  }
  if (all.empty()) return std::nullopt;
  throw InputError(folder_.string() + ": none of the " + std::to_string(all.size()) +
                   " checkpoints is whole; remove the folder to start anew");
}

}  // namespace ufp4
