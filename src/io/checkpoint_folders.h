// How the folders of a run's checkpoints are called: step-00000123.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>
#include <vector>

namespace ufp4::io {

inline constexpr std::string_view kCheckpointPrefix = "step-";

std::filesystem::path checkpoint_path(const std::filesystem::path& checkpoints, std::int64_t step);

// The steps of which there are checkpoints, ascending.
std::vector<std::int64_t> checkpoint_steps(const std::filesystem::path& checkpoints);

}  // namespace ufp4::io
