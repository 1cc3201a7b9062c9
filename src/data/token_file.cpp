#include "data/token_file.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <utility>

#include "data/token_shard.h"
#include "numerics/near_name.h"
#include "ufp4/error.h"

namespace ufp4::data {
namespace {

namespace fs = std::filesystem;

constexpr std::array<std::string_view, 5> kFormats{"auto", "ufp4", "llm.c", "nanogpt", "megatron"};

// A vocabulary that a file does not tell.
struct Vocabulary {
  std::int64_t size = 0;
  std::int64_t separator = 0;
};
constexpr Vocabulary kGpt2{50257, 50256};
constexpr Vocabulary kLlama3{128256, 128000};

struct LlmcKind {
  std::uint32_t magic, version, token_bytes;
  Vocabulary vocabulary;
};
constexpr std::array kLlmcKinds{LlmcKind{20240520, 1, 2, kGpt2}, LlmcKind{20240801, 7, 4, kLlama3}};
constexpr std::size_t kLlmcHeader = std::size_t{256} * 4;

constexpr std::string_view kIndexMagic{"MMIDIDX\0\0", 9};
constexpr std::size_t kIndexHeader = 9 + 8 + 1 + 8 + 8;

[[noreturn]] void wrong(const fs::path& path, const std::string& what) {
  throw InputError(path.string() + ": " + what);
}

template <class T>
T load(std::span<const std::byte> bytes, std::size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

fs::path index_of(const fs::path& path) { return fs::path(path).replace_extension(".idx"); }

bool begins_with(const io::MappedFile& file, std::string_view magic) { return file.text().starts_with(magic); }

std::optional<LlmcKind> llmc_kind(const io::MappedFile& file) {
  if (file.bytes().size() < kLlmcHeader) return std::nullopt;
  for (const LlmcKind& kind : kLlmcKinds) {
    if (load<std::uint32_t>(file.bytes(), 0) == kind.magic) return kind;
  }
  return std::nullopt;
}

bool has_index(const fs::path& path) {
  return fs::is_regular_file(index_of(path)) && begins_with(io::MappedFile(index_of(path)), kIndexMagic);
}

// Of the settings, where they tell one; else `known`.
void set_vocabulary(TokenFile& file, const TokenFileSettings& settings, const std::optional<Vocabulary>& known) {
  const fs::path& path = file.file.path();
  if (!known && (settings.vocab_size == 0 || settings.separator < 0)) {
    wrong(path, "the file does not tell its vocabulary: give data.vocab_size and data.separator");
  }
  const std::int64_t size = settings.vocab_size > 0 ? settings.vocab_size : known->size;
  const std::int64_t separator = settings.separator >= 0 ? settings.separator : known->separator;
  if (size < 2 || size > 0x7FFFFFFF || separator >= size) {
    wrong(path, "a vocabulary of " + std::to_string(size) + " tokens with separator " + std::to_string(separator) +
                    ", expected 2 to 2147483647, and a separator below (data.vocab_size, data.separator)");
  }
  file.vocab_size = static_cast<std::uint32_t>(size);
  file.separator = static_cast<std::uint32_t>(separator);
}

void take_all(TokenFile& file, std::size_t offset) {
  file.tokens = file.file.bytes().subspan(offset);
  if (file.tokens.empty() || file.tokens.size() % file.token_bytes != 0) {
    wrong(file.file.path(), std::to_string(file.tokens.size()) + " bytes of tokens, expected a multiple of " +
                                std::to_string(file.token_bytes) + " above 0");
  }
  file.ranges = {{0, static_cast<std::int64_t>(file.tokens.size() / file.token_bytes)}};
}

TokenFile open_shard(const fs::path& path, const TokenFileSettings& settings) {
  TokenShard shard(path);
  const ShardHeader header = shard.header();
  const auto check = [&](std::int64_t given, std::int64_t none, std::uint32_t found, const char* key) {
    if (given == none || given == static_cast<std::int64_t>(found)) return;
    wrong(path, "the shard's own number is " + std::to_string(found) + ", but " + key + " is " + std::to_string(given));
  };
  check(settings.vocab_size, 0, header.vocab_size, "data.vocab_size");
  check(settings.separator, -1, header.separator, "data.separator");
  TokenFile file{
      std::move(shard).take_file(), {}, header.token_bytes, header.vocab_size, header.separator, header.tokenizer, {}};
  take_all(file, kShardHeaderBytes);
  return file;
}

TokenFile open_llmc(io::MappedFile mapped, const TokenFileSettings& settings) {
  const std::optional<LlmcKind> kind = llmc_kind(mapped);
  if (!kind) wrong(mapped.path(), "no file of llm.c: it does not begin with 20240520 or 20240801 and 1024 bytes");
  const auto version = load<std::uint32_t>(mapped.bytes(), 4);
  if (version != kind->version) {
    wrong(mapped.path(),
          "version " + std::to_string(version) + " of llm.c's files, expected " + std::to_string(kind->version));
  }
  const auto count = load<std::uint32_t>(mapped.bytes(), 8);
  TokenFile file{std::move(mapped), {}, kind->token_bytes, 0, 0, 0, {}};
  set_vocabulary(file, settings, kind->vocabulary);
  take_all(file, kLlmcHeader);
  if (file.ranges.front().length != static_cast<std::int64_t>(count)) {
    wrong(file.file.path(), "the header tells of " + std::to_string(count) + " tokens, and " +
                                std::to_string(file.ranges.front().length) + " follow it");
  }
  return file;
}

TokenFile open_nanogpt(io::MappedFile mapped, const TokenFileSettings& settings) {
  TokenFile file{std::move(mapped), {}, 2, 0, 0, 0, {}};
  set_vocabulary(file, settings, kGpt2);
  take_all(file, 0);
  return file;
}

std::uint32_t megatron_bytes(const fs::path& index, std::uint8_t code) {
  switch (code) {
    case 1: return 1;  // uint8
    case 4: return 4;  // int32, never negative
    case 8: return 2;  // uint16
    default: wrong(index, "tokens of type " + std::to_string(code) + ", expected 1 (uint8), 4 (int32) or 8 (uint16)");
  }
}

TokenFile open_megatron(io::MappedFile mapped, const TokenFileSettings& settings) {
  const fs::path index_path = index_of(mapped.path());
  const io::MappedFile index(index_path);
  const std::span<const std::byte> bytes = index.bytes();
  if (!begins_with(index, kIndexMagic) || bytes.size() < kIndexHeader) {
    wrong(index_path, "no index of Megatron: it does not begin with \"MMIDIDX\", two zero bytes and its header");
  }
  if (const auto version = load<std::uint64_t>(bytes, 9); version != 1) {
    wrong(index_path, "version " + std::to_string(version) + " of Megatron's indices, expected 1");
  }
  const std::uint32_t token_bytes = megatron_bytes(index_path, load<std::uint8_t>(bytes, 17));
  const auto sequences = load<std::uint64_t>(bytes, 18);
  const auto documents = load<std::uint64_t>(bytes, 26);
  // Divide, for the products may overflow. A byte a sequence may follow, of data with several modes.
  const std::uint64_t body = bytes.size() - kIndexHeader;
  if (sequences == 0 || documents < 2 || sequences > body / 12 || documents > (body - 12 * sequences) / 8) {
    wrong(index_path, "it tells of " + std::to_string(sequences) + " sequences and " + std::to_string(documents) +
                          " bounds of documents, for which its " + std::to_string(body) + " bytes are too few");
  }
  TokenFile file{std::move(mapped), {}, token_bytes, 0, 0, 0, {}};
  set_vocabulary(file, settings, std::nullopt);
  take_all(file, 0);
  const std::int64_t tokens = file.ranges.front().length;
  const auto count = static_cast<std::size_t>(sequences);
  const auto length_of = [&](std::size_t i) { return load<std::int32_t>(bytes, kIndexHeader + 4 * i); };
  const auto place_of = [&](std::size_t i) { return load<std::int64_t>(bytes, kIndexHeader + 4 * count + 8 * i); };
  const auto bound_of = [&](std::size_t i) { return load<std::int64_t>(bytes, kIndexHeader + 12 * count + 8 * i); };
  file.ranges.clear();
  for (std::size_t d = 0; d + 1 < documents; ++d) {
    const std::int64_t first = bound_of(d);
    const std::int64_t last = bound_of(d + 1);
    if (first < 0 || last < first || last > static_cast<std::int64_t>(sequences)) {
      wrong(index_path, "document " + std::to_string(d) + " has the sequences " + std::to_string(first) + " to " +
                            std::to_string(last) + ", of " + std::to_string(sequences));
    }
    TokenRange range{-1, 0};
    for (auto i = static_cast<std::size_t>(first); i < static_cast<std::size_t>(last); ++i) {
      const std::int64_t length = length_of(i);
      const std::int64_t place = place_of(i);
      const std::int64_t begin = place / token_bytes;
      const bool inside = place >= 0 && place % token_bytes == 0 && length >= 0 && begin <= tokens - length;
      if (!inside || (range.first >= 0 && begin != range.first + range.length)) {
        wrong(index_path, "sequence " + std::to_string(i) + " has " + std::to_string(length) + " tokens at byte " +
                              std::to_string(place) +
                              (inside ? ", apart from the one before" : ", which is outside of ") +
                              (inside ? "" : file.file.path().string()));
      }
      if (range.first < 0) range.first = begin;
      range.length += length;
    }
    if (range.length > 0) file.ranges.push_back(range);
  }
  return file;
}

}  // namespace

std::span<const std::string_view> token_formats() { return kFormats; }

TokenFile open_token_file(const fs::path& path, const TokenFileSettings& settings) {
  const std::string& format = settings.format;
  if (std::find(kFormats.begin(), kFormats.end(), format) == kFormats.end()) {
    throw InputError("data.format is '" + format + "'" + name_hint(format, kFormats));
  }
  if (format == "ufp4") return open_shard(path, settings);
  io::MappedFile mapped(path);
  if (format == "llm.c") return open_llmc(std::move(mapped), settings);
  if (format == "nanogpt") return open_nanogpt(std::move(mapped), settings);
  if (format == "megatron") return open_megatron(std::move(mapped), settings);
  if (llmc_kind(mapped)) return open_llmc(std::move(mapped), settings);
  if (has_index(path)) return open_megatron(std::move(mapped), settings);
  return open_shard(path, settings);
}

}  // namespace ufp4::data
