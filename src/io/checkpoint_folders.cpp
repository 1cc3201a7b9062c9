#include "io/checkpoint_folders.h"

#include <algorithm>
#include <cstdio>
#include <optional>
#include <string>

namespace ufp4::io {
namespace {

namespace fs = std::filesystem;

// The step in a folder's name; nothing for other names.
std::optional<std::int64_t> step_of(const fs::path& folder) {
  const std::string name = folder.filename();
  if (!name.starts_with(kCheckpointPrefix) || name.size() == kCheckpointPrefix.size() ||
      name.size() > kCheckpointPrefix.size() + 12)
    return std::nullopt;
  if (name.find_first_not_of("0123456789", kCheckpointPrefix.size()) != std::string::npos) return std::nullopt;
  return std::stoll(name.substr(kCheckpointPrefix.size()));
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
    if (const auto step = step_of(entry.path())) list.push_back(*step);
  }
  std::sort(list.begin(), list.end());
  return list;
}

}  // namespace ufp4::io
