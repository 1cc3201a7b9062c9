// Token shards: text that was tokenized before, with the vocabulary that it was tokenized with.
//
// All numbers little-endian. A header of 40 bytes, then the tokens, and nothing after them:
//   offset  size  what
//   0       8     magic "UFP4TOK\0"
//   8       4     version, 1
//   12      4     bytes a token: 2 (uint16) or 4 (uint32)
//   16      4     vocabulary size V, 2 .. 65536 for 2 bytes, to 2^31 - 1 for 4; token ids are below V
//   20      4     separator: the token id that ends a document, below V
//   24      8     number of tokens, at least 1
//   32      8     first 8 bytes of the XXH3-128 of the tokenizer.json that made the tokens; zero: not known
// A document is the tokens up to a separator; the last one need not be ended. Separators that follow one another
// enclose no document.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <utility>

#include "io/file.h"

namespace ufp4::data {

inline constexpr std::size_t kShardHeaderBytes = 40;

struct ShardHeader {
  std::uint32_t token_bytes = 2;
  std::uint32_t vocab_size = 0;
  std::uint32_t separator = 0;
  std::uint64_t tokens = 0;
  std::uint64_t tokenizer = 0;
};

// Replaces `path` by a shard of these tokens, separators among them; `header.tokens` is taken from `tokens`.
// InputError for a header or token that breaks the rules above.
void write_token_shard(const std::filesystem::path& path, ShardHeader header, std::span<const std::uint32_t> tokens);

// A mapped shard. The constructor checks the header and the size, InputError naming the file and what is wrong.
class TokenShard {
 public:
  explicit TokenShard(const std::filesystem::path& path);

  const ShardHeader& header() const { return header_; }
  const io::MappedFile& file() const { return file_; }
  io::MappedFile take_file() && { return std::move(file_); }
  std::span<const std::byte> tokens() const { return file_.bytes().subspan(kShardHeaderBytes); }

 private:
  io::MappedFile file_;
  ShardHeader header_;
};

}  // namespace ufp4::data
