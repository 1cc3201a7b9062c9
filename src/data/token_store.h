// All documents of a list of files, and rows of documents joined to one long sequence of tokens.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "data/byte_store.h"
#include "data/token_file.h"

namespace ufp4::data {

// Tokens first .. first + length - 1 of a source: a document or a part of one, without its separator.
struct Piece {
  std::size_t source = 0;
  std::int64_t first = 0;
  std::int64_t length = 0;
};

// Reads files (see data/dataset.h for the kinds) and holds their tokens: the bytes of all text in one source, every
// shard in one of its own.
class TokenStore {
 public:
  // Throws InputError for the first thing that is wrong with a file, or if their vocabularies or separators differ.
  TokenStore(std::span<const std::string> files, std::int64_t memory_limit, const TokenFileSettings& settings = {});

  std::int32_t vocab_size() const { return vocab_size_; }
  std::int32_t separator() const { return separator_; }
  // ShardHeader::tokenizer of the shards, and a file with it; zero if none of them tells.
  std::uint64_t tokenizer() const { return tokenizer_; }
  const std::string& tokenized_file() const { return tokenized_file_; }
  const std::vector<Piece>& documents() const { return documents_; }

  // Tokens `first` on of a piece.
  void copy(const Piece& piece, std::int64_t first, std::span<std::int32_t> tokens) const;

  // RunError if a shard was cut since: touching what is gone would kill the process.
  void check_unchanged() const;

  // Of the tokens and the bounds of the documents, in the order of the files.
  std::string checksum() const;

 private:
  struct Source {
    std::span<const std::byte> bytes;
    std::uint32_t token_bytes;
  };

  void agree_on_vocabulary(const std::string& file, std::int32_t vocab_size, std::int32_t separator,
                           std::uint64_t tokenizer);
  void add_text(const std::string& file);
  void add_tokens(const std::string& file, const TokenFileSettings& settings);

  ByteStore text_;
  std::vector<std::unique_ptr<TokenFile>> token_files_;
  std::vector<Source> sources_;
  std::vector<Piece> documents_;
  std::string first_file_;  // the one that set the vocabulary
  std::int32_t vocab_size_ = 0;
  std::int32_t separator_ = 0;
  std::uint64_t tokenizer_ = 0;
  std::string tokenized_file_;  // the one that set the tokenizer
};

// Pieces one after the other, each followed by the separator.
class TokenRow {
 public:
  TokenRow(const TokenStore& store, std::vector<Piece> pieces);

  std::int64_t size() const { return ends_.empty() ? 0 : ends_.back(); }
  void copy(std::int64_t first, std::span<std::int32_t> tokens) const;

 private:
  const TokenStore* store_;
  std::vector<Piece> pieces_;
  std::vector<std::int64_t> ends_;  // of each piece with its separator
};

}  // namespace ufp4::data
