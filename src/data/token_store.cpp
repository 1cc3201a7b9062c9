#include "data/token_store.h"

#include <algorithm>
#include <cstring>

#include "data/dataset.h"
#include "data/text_reader.h"
#include "io/checksum.h"
#include "ufp4/error.h"

namespace ufp4::data {
namespace {

constexpr std::size_t kTextSource = 0;
template <typename T>
void widen(const std::byte* from, std::span<std::int32_t> to) {
  for (std::size_t i = 0; i < to.size(); ++i) {
    T token;
    std::memcpy(&token, from + i * sizeof(T), sizeof(T));
    to[i] = static_cast<std::int32_t>(token);
  }
}

// Calls document(first, length) for each, and checks every token.
template <typename T, typename F>
void scan(const TokenFile& file, const TokenRange& range, const F& document) {
  const std::byte* bytes = file.tokens.data();
  std::int64_t first = range.first;
  const std::int64_t end = range.first + range.length;
  for (std::int64_t i = range.first; i < end; ++i) {
    T token;
    std::memcpy(&token, bytes + static_cast<std::size_t>(i) * sizeof(T), sizeof(T));
    if (token >= file.vocab_size) {
      const auto before = static_cast<std::size_t>(file.tokens.data() - file.file.bytes().data());
      throw InputError(file.file.path().string() + ": token " + std::to_string(i) + " (at byte " +
                       std::to_string(before + static_cast<std::size_t>(i) * sizeof(T)) + ") is " +
                       std::to_string(token) + ", beyond the vocabulary of " + std::to_string(file.vocab_size));
    }
    if (token == file.separator) {
      if (i > first) document(first, i - first);
      first = i + 1;
    }
  }
  if (end > first) document(first, end - first);
}

}  // namespace

TokenStore::TokenStore(std::span<const std::string> files, std::int64_t memory_limit, const TokenFileSettings& settings)
    : text_(memory_limit), sources_(1, Source{{}, 1}) {
  for (const std::string& file : files) {
    if (file.ends_with(kShardEnding)) {
      add_tokens(file, settings);
    } else {
      add_text(file);
    }
  }
  sources_[kTextSource].bytes = text_.finish();
}

void TokenStore::agree_on_vocabulary(const std::string& file, std::int32_t vocab_size, std::int32_t separator,
                                     std::uint64_t tokenizer) {
  if (first_file_.empty()) {
    first_file_ = file;
    vocab_size_ = vocab_size;
    separator_ = separator;
  } else if (vocab_size != vocab_size_ || separator != separator_) {
    throw InputError(file + ": a vocabulary of " + std::to_string(vocab_size) + " with separator " +
                     std::to_string(separator) + " does not go with that of " + first_file_ + ": " +
                     std::to_string(vocab_size_) + " with separator " + std::to_string(separator_));
  }
  if (tokenizer == 0) return;
  if (tokenized_file_.empty()) {
    tokenized_file_ = file;
    tokenizer_ = tokenizer;
  } else if (tokenizer != tokenizer_) {
    throw InputError(file + ": its tokens are of another tokenizer than those of " + tokenized_file_);
  }
}

void TokenStore::add_text(const std::string& file) {
  check_text_kind(file);
  agree_on_vocabulary(file, kByteVocabulary, kEndOfDocument, 0);
  read_text(file, [this](std::string_view text) {
    documents_.push_back({kTextSource, text_.size(), static_cast<std::int64_t>(text.size())});
    text_.append(text);
  });
}

void TokenStore::add_tokens(const std::string& file, const TokenFileSettings& settings) {
  token_files_.push_back(std::make_unique<TokenFile>(open_token_file(file, settings)));
  const TokenFile& tokens = *token_files_.back();
  agree_on_vocabulary(file, static_cast<std::int32_t>(tokens.vocab_size), static_cast<std::int32_t>(tokens.separator),
                      tokens.tokenizer);
  const std::size_t source = sources_.size();
  const std::size_t before = documents_.size();
  sources_.push_back({tokens.tokens, tokens.token_bytes});
  const auto add = [this, source](std::int64_t first, std::int64_t length) {
    documents_.push_back({source, first, length});
  };
  for (const TokenRange& range : tokens.ranges) {
    switch (tokens.token_bytes) {
      case 1: scan<std::uint8_t>(tokens, range, add); break;
      case 2: scan<std::uint16_t>(tokens, range, add); break;
      default: scan<std::uint32_t>(tokens, range, add); break;
    }
  }
  if (documents_.size() == before) throw InputError(file + ": the shard holds separators only");
}

void TokenStore::copy(const Piece& piece, std::int64_t first, std::span<std::int32_t> tokens) const {
  const Source& source = sources_[piece.source];
  const std::byte* from =
      source.bytes.data() + static_cast<std::size_t>(piece.first + first) * std::size_t{source.token_bytes};
  switch (source.token_bytes) {
    case 1: return widen<std::uint8_t>(from, tokens);
    case 2: return widen<std::uint16_t>(from, tokens);
    default: return widen<std::uint32_t>(from, tokens);
  }
}

void TokenStore::check_unchanged() const {
  for (const auto& tokens : token_files_) tokens->file.check_unchanged();
}

std::string TokenStore::checksum() const {
  std::string all = std::to_string(vocab_size_) + "/" + std::to_string(separator_);
  for (const Source& source : sources_) all += "/" + io::checksum(source.bytes);
  all += "/" + io::checksum(std::as_bytes(std::span(documents_)));
  return io::checksum(std::as_bytes(std::span(all)));
}

TokenRow::TokenRow(const TokenStore& store, std::vector<Piece> pieces) : store_(&store), pieces_(std::move(pieces)) {
  ends_.reserve(pieces_.size());
  for (const Piece& piece : pieces_) ends_.push_back(size() + piece.length + 1);
}

void TokenRow::copy(std::int64_t first, std::span<std::int32_t> tokens) const {
  auto i = static_cast<std::size_t>(std::upper_bound(ends_.begin(), ends_.end(), first) - ends_.begin());
  while (!tokens.empty()) {
    const Piece& piece = pieces_[i];
    const std::int64_t inside = first - (ends_[i] - piece.length - 1);
    const auto count = std::min(tokens.size(), static_cast<std::size_t>(piece.length - inside));
    store_->copy(piece, inside, tokens.first(count));
    tokens = tokens.subspan(count);
    first += static_cast<std::int64_t>(count);
    if (!tokens.empty()) {
      tokens.front() = store_->separator();
      tokens = tokens.subspan(1);
      ++first;
      ++i;
    }
  }
}

}  // namespace ufp4::data
