// Files of tokens that other programs made, and ours, as one thing.
//
//   ufp4      a token shard (data/token_shard.h): it tells its vocabulary, separator and tokenizer
//   llm.c     256 int32, the first three magic, version and number of tokens; then the tokens. 20240520: uint16 of
//   GPT-2;
//             20240801: uint32 of Llama 3
//   nanogpt   uint16 tokens and nothing else, of GPT-2 unless told otherwise; only where it is named
//   megatron  tokens in X.bin, and X.idx: magic, version 1, type, and where each sequence and document is; the
//             vocabulary must be told
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/file.h"

namespace ufp4::data {

struct TokenFileSettings {
  std::string format = "auto";  // or a name above; "auto" tells them apart
  std::int64_t vocab_size = 0;  // 0: that of the format
  std::int64_t separator = -1;  // -1: that of the format
};

// The names that `format` takes.
std::span<const std::string_view> token_formats();

struct TokenRange {
  std::int64_t first = 0;
  std::int64_t length = 0;
};

struct TokenFile {
  io::MappedFile file;
  std::span<const std::byte> tokens;  // of the file
  std::uint32_t token_bytes = 2;      // 1, 2 or 4, unsigned
  std::uint32_t vocab_size = 0;
  std::uint32_t separator = 0;
  std::uint64_t tokenizer = 0;     // ShardHeader::tokenizer
  std::vector<TokenRange> ranges;  // of documents; separators cut them further
};

// Throws InputError that names the file and what is wrong. Tokens are not looked at.
TokenFile open_token_file(const std::filesystem::path& path, const TokenFileSettings& settings);

}  // namespace ufp4::data
