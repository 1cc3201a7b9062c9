// The folders of a run's checkpoints: how they are called (step-00000123), and whether one is whole.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace ufp4::io {

inline constexpr std::string_view kCheckpointPrefix = "step-";
inline constexpr std::array<const char*, 4> kCheckpointFiles{"config.toml", "model.safetensors",
                                                             "optimizer.safetensors", "state.json"};
inline constexpr const char* kCheckpointManifest = "manifest.json";

std::filesystem::path checkpoint_path(const std::filesystem::path& checkpoints, std::int64_t step);

// The steps of which there are checkpoints, ascending: folders that are called as checkpoint_path() says, no others and
// no links.
std::vector<std::int64_t> checkpoint_steps(const std::filesystem::path& checkpoints);

// What begins like the name of a checkpoint and is none: another number of digits, a file, a link.
std::vector<std::filesystem::path> stray_checkpoints(const std::filesystem::path& checkpoints);

// The checkpoint at `path`, or the newest of the run at `path`. Throws InputError if there is none.
std::filesystem::path find_checkpoint(const std::filesystem::path& path);

// The text of the manifest for the files of a checkpoint: size and checksum of each.
std::string checkpoint_manifest(const std::filesystem::path& checkpoint);

// Throws InputError that names the first file that is missing or whose size or checksum is not the manifest's.
void verify_checkpoint(const std::filesystem::path& checkpoint);

}  // namespace ufp4::io
