#include "data/token_shard.h"

#include <bit>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "io/foreign_file.h"
#include "ufp4/error.h"

namespace ufp4::data {
namespace {

static_assert(std::endian::native == std::endian::little, "shards are read in place");

constexpr std::string_view kMagic{"UFP4TOK\0", 8};
constexpr std::uint32_t kVersion = 1;

template <typename T>
T load(std::span<const std::byte> bytes, std::size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

template <typename T>
void store(std::span<std::byte> bytes, std::size_t offset, T value) {
  std::memcpy(bytes.data() + offset, &value, sizeof value);
}

void check(const std::string& name, const ShardHeader& header) {
  const auto wrong = [&name](const std::string& what) { throw InputError(name + ": " + what); };
  if (header.token_bytes != 2 && header.token_bytes != 4) {
    wrong("expected 2 or 4 bytes a token, found " + std::to_string(header.token_bytes));
  }
  const std::uint32_t largest = header.token_bytes == 2 ? 65536u : 0x7FFFFFFFu;
  if (header.vocab_size < 2 || header.vocab_size > largest) {
    wrong("expected a vocabulary of 2 to " + std::to_string(largest) + " tokens, found " +
          std::to_string(header.vocab_size));
  }
  if (header.separator >= header.vocab_size) {
    wrong("the separator " + std::to_string(header.separator) + " is beyond the vocabulary of " +
          std::to_string(header.vocab_size));
  }
  if (header.tokens == 0) wrong("the shard holds no tokens");
}

}  // namespace

void write_token_shard(const std::filesystem::path& path, ShardHeader header, std::span<const std::uint32_t> tokens) {
  header.tokens = tokens.size();
  check(path.string(), header);
  std::vector<std::byte> bytes(kShardHeaderBytes + tokens.size() * header.token_bytes);
  std::memcpy(bytes.data(), kMagic.data(), kMagic.size());
  store(bytes, 8, kVersion);
  store(bytes, 12, header.token_bytes);
  store(bytes, 16, header.vocab_size);
  store(bytes, 20, header.separator);
  store(bytes, 24, header.tokens);
  store(bytes, 32, header.tokenizer);
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] >= header.vocab_size) {
      throw InputError(path.string() + ": token " + std::to_string(i) + " is " + std::to_string(tokens[i]) +
                       ", beyond the vocabulary of " + std::to_string(header.vocab_size));
    }
    if (header.token_bytes == 2) {
      store(bytes, kShardHeaderBytes + 2 * i, static_cast<std::uint16_t>(tokens[i]));
    } else {
      store(bytes, kShardHeaderBytes + 4 * i, tokens[i]);
    }
  }
  io::atomic_write_file(path, std::span<const std::byte>(bytes));
}

TokenShard::TokenShard(const std::filesystem::path& path) : file_(path) {
  const std::string name = path.string();
  const std::span<const std::byte> bytes = file_.bytes();
  if (bytes.empty()) throw InputError(name + ": the file is empty");
  if (const std::string_view what = io::foreign_content(file_.text()); !what.empty()) {
    throw InputError(name + ": it is " + std::string(what));
  }
  if (bytes.size() < kMagic.size() || std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) != 0) {
    throw InputError(name + ": no token shard: it does not begin with \"UFP4TOK\" and a zero byte");
  }
  if (bytes.size() < kShardHeaderBytes) {
    throw InputError(name + ": truncated: expected a header of " + std::to_string(kShardHeaderBytes) +
                     " bytes, found " + std::to_string(bytes.size()));
  }
  if (const auto version = load<std::uint32_t>(bytes, 8); version != kVersion) {
    throw InputError(name + ": expected version " + std::to_string(kVersion) + " of token shards, found " +
                     std::to_string(version));
  }
  header_.token_bytes = load<std::uint32_t>(bytes, 12);
  header_.vocab_size = load<std::uint32_t>(bytes, 16);
  header_.separator = load<std::uint32_t>(bytes, 20);
  header_.tokens = load<std::uint64_t>(bytes, 24);
  check(name, header_);
  header_.tokenizer = load<std::uint64_t>(bytes, 32);
  const std::uint64_t body = bytes.size() - kShardHeaderBytes;
  // Divide, for the product may overflow.
  if (body % header_.token_bytes != 0 || body / header_.token_bytes != header_.tokens) {
    const bool more = body / header_.token_bytes >= header_.tokens;
    throw InputError(name + (more ? ": too long" : ": truncated") + ": the header tells of " +
                     std::to_string(header_.tokens) + " tokens of " + std::to_string(header_.token_bytes) +
                     " bytes, and " + std::to_string(body) + " bytes follow it");
  }
}

}  // namespace ufp4::data
