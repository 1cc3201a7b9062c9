// The safetensors files of a folder: a model in one file or in shards.
#pragma once

#include <filesystem>
#include <vector>

namespace ufp4::io {

struct SafetensorsFolder {
  std::vector<std::filesystem::path> files;       // in the order of their names
  std::vector<std::filesystem::path> companions;  // "._x.safetensors" of macOS, which hold no tensors
};

// Throws InputError if there is none, or if a shard is missing that an index (*.safetensors.index.json) names or that
// the numbers in the names of the others announce (model-00001-of-00003.safetensors).
SafetensorsFolder list_safetensors(const std::filesystem::path& folder);

}  // namespace ufp4::io
