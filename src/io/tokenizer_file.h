// The tokenizer.json of a folder, told from others by its hash.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>

namespace ufp4::io {

inline constexpr const char* kTokenizerName = "tokenizer.json";
// With the token that ends a document.
inline constexpr const char* kTokenizerConfigName = "tokenizer_config.json";

// That of a checkpoint: in its folder, or in that of the run which has it among its checkpoints/.
std::optional<std::filesystem::path> tokenizer_of(const std::filesystem::path& checkpoint);

// The first 8 bytes of its XXH3-128, as a token shard keeps them.
std::uint64_t tokenizer_hash(const std::filesystem::path& file);

}  // namespace ufp4::io
