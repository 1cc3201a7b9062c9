#include "io/checkpoint_folders.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <optional>
#include <system_error>

#include "io/checkpoint_manifest.h"
#include "io/checksum.h"
#include "io/file.h"
#include "io/tensor_name.h"
#include "ufp4/error.h"

namespace ufp4::io {
namespace {

namespace fs = std::filesystem;

// The step of a checkpoint; nothing for what is called otherwise, a file or a link.
std::optional<std::int64_t> step_of(const fs::directory_entry& entry) {
  const std::string name = entry.path().filename();
  if (!name.starts_with(kCheckpointPrefix)) return std::nullopt;
  std::int64_t step = 0;
  const char* const end = name.data() + name.size();
  const auto [last, error] = std::from_chars(name.data() + kCheckpointPrefix.size(), end, step);
  if (error != std::errc() || last != end || step < 0) return std::nullopt;
  // Two names of one step would make one checkpoint count twice.
  if (checkpoint_path({}, step).string() != name) return std::nullopt;
  std::error_code ignored;
  return entry.symlink_status(ignored).type() == fs::file_type::directory ? std::optional(step) : std::nullopt;
}

FileFacts describe_file(const fs::path& file) {
  return {static_cast<std::int64_t>(fs::file_size(file)), checksum_of_file(file)};
}

std::string text_of(const FileFacts& facts) {
  return std::to_string(facts.bytes) + " bytes of xxh128 " + show_name(facts.xxh128);
}

// Of a comparison: that one of its runs is meant, with an example; else nothing.
std::string hint_at_runs(const fs::path& path) {
  std::vector<fs::path> runs;
  if (fs::is_directory(path / "runs")) {
    for (const fs::directory_entry& entry : fs::directory_iterator(path / "runs")) runs.push_back(entry.path());
  }
  if (runs.empty()) return {};
  return "; name one of the runs in it, such as '" + std::min_element(runs.begin(), runs.end())->string() + "'";
}

}  // namespace

fs::path checkpoint_path(const fs::path& checkpoints, std::int64_t step) {
  char name[32];
  std::snprintf(name, sizeof name, "step-%08lld", static_cast<long long>(step));
  return checkpoints / name;
}

std::vector<std::int64_t> checkpoint_steps(const fs::path& checkpoints) {
  std::vector<std::int64_t> list;
  for (const fs::directory_entry& entry : fs::directory_iterator(checkpoints)) {
    if (const auto step = step_of(entry)) list.push_back(*step);
  }
  std::sort(list.begin(), list.end());
  return list;
}

std::vector<fs::path> stray_checkpoints(const fs::path& checkpoints) {
  std::vector<fs::path> list;
  for (const fs::directory_entry& entry : fs::directory_iterator(checkpoints)) {
    if (entry.path().filename().string().starts_with(kCheckpointPrefix) && !step_of(entry)) {
      list.push_back(entry.path());
    }
  }
  std::sort(list.begin(), list.end());
  return list;
}

fs::path find_checkpoint(const fs::path& path) {
  if (fs::exists(path / "model.safetensors")) return path;
  if (fs::is_directory(path / "checkpoints")) {
    const std::vector<std::int64_t> steps = checkpoint_steps(path / "checkpoints");
    if (!steps.empty()) return checkpoint_path(path / "checkpoints", steps.back());
  }
  throw InputError("'" + path.string() +
                   "' is no checkpoint (no model.safetensors in it) and no run folder with one (no checkpoints/)" +
                   hint_at_runs(path));
}

std::string checkpoint_manifest(const fs::path& checkpoint) {
  Manifest files;
  for (const char* name : kCheckpointFiles) files[name] = describe_file(checkpoint / name);
  return manifest_text(files);
}

void verify_checkpoint(const fs::path& checkpoint) {
  const fs::path manifest_path = checkpoint / kCheckpointManifest;
  const Manifest manifest = parse_manifest(MappedFile(manifest_path).text(), manifest_path.string());
  for (const char* name : kCheckpointFiles) {
    const fs::path file = checkpoint / name;
    if (!fs::is_regular_file(file)) throw InputError(file.string() + " is missing");
    const FileFacts found = describe_file(file);
    const auto expected = manifest.find(name);
    if (expected == manifest.end() || found != expected->second) {
      throw InputError(file.string() + " is damaged: found " + text_of(found) + ", " + manifest_path.string() +
                       " says " + (expected == manifest.end() ? "nothing of it" : text_of(expected->second)));
    }
  }
  if (manifest.size() != kCheckpointFiles.size()) {
    throw InputError(manifest_path.string() + " is not a manifest of this version: it names " +
                     std::to_string(manifest.size()) + " files, expected " + std::to_string(kCheckpointFiles.size()));
  }
}

}  // namespace ufp4::io
