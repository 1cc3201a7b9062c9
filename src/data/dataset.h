// Token sequences for training and validation, from files or from the built-in language.
//
// Sources (docs/data.md has the formats in full):
//   *.txt         plain UTF-8 text, a file is a document
//   *.jsonl       one JSON object a line, its "text" is a document
//   *.jsonl.zst   the same, zstd-compressed (one or more frames, windows up to 2^27 bytes)
//   *.bin         tokens with a vocabulary of their own, of several formats (data/token_file.h)
//   builtin       the built-in language (data/language.h): unlimited, of exactly known entropy; stands alone
// Text becomes bytes as tokens: 0..255, and 256 ends a document. Sources of different vocabularies do not mix.
//
// Order of training. In each epoch the documents are shuffled and joined, each followed by its separator, and this one
// long row of tokens is cut into sequences of T + 1 that overlap by one token, so that every token but the first is a
// target once. The sequences are then shuffled too: a book is cut into many sequences, and without the second shuffle a
// whole batch would come from one book. What is left over at the end (fewer than T tokens) waits for another epoch's
// shuffle. Both shuffles depend on the seed and the epoch alone, so a position is two numbers, and the tokens do not
// depend on how many sequences are asked for at once.
//
// Validation is fixed: the same sequences in the same order for every seed.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/token_file.h"

namespace ufp4 {

using data::TokenFileSettings;

// What is known of the tokenizer that made the tokens; a hash of zero: nothing.
struct DataTokenizer {
  std::uint64_t hash = 0;  // ShardHeader::tokenizer
  std::string file;        // of the data, which says so
};

inline constexpr std::string_view kBuiltinLanguage = "builtin";
inline constexpr std::int32_t kByteVocabulary = 257;
inline constexpr std::int32_t kEndOfDocument = 256;

struct DataConfig {
  std::vector<std::string> train_files;  // paths, or the one entry "builtin"
  // One for each of the training files: how often each is drawn from (data/mixture_dataset.h). Empty: they are one
  // text.
  std::vector<double> weights;
  std::vector<std::string> val_files;  // held-out files; empty: see val_fraction. With "builtin": empty or "builtin"
  // Where there are no val_files: the share of the documents held out (at least one; of a single document its tail).
  // 0: no validation. Which documents does not depend on the seed. The built-in language needs no split.
  double val_fraction = 0.01;
  TokenFileSettings tokens;          // how files of tokens are read
  std::int64_t sequence_length = 0;  // T: predicted tokens a sequence; a sequence has T + 1 tokens
  std::uint64_t seed = 0;            // of the order of training, and of the text of the built-in language
  // At most so many predicted tokens of validation (at least one sequence), spread evenly over the held-out text;
  // 0: all of it (not for the built-in language, which has no end).
  std::int64_t val_tokens = 1 << 17;
  // Decoded text is kept in memory up to so many bytes, beyond in an unlinked file in the system's temporary folder.
  // Token shards are memory-mapped and never count.
  std::int64_t memory_limit = std::int64_t{4} << 30;
};

// Not safe for use by several threads at once, but for the const functions while next() and restore() do not run.
class Dataset {
 public:
  // Reads and checks every source from end to end. Throws InputError naming the file and the line, offset or token
  // for anything that is wrong with it or with the configuration; RunError if temporary space runs out.
  static std::unique_ptr<Dataset> open(const DataConfig& config);
  virtual ~Dataset() = default;

  virtual std::int64_t sequence_length() const = 0;  // T
  virtual std::int32_t vocab_size() const = 0;       // token ids are below it

  virtual DataTokenizer tokenizer() const { return {}; }

  // The built-in language only: the least mean loss in nats a token that any model can reach in expectation on
  // sequences of this length, exactly. (Sequences begin at the start of a document, so the past is never hidden.)
  virtual std::optional<double> entropy_rate() const = 0;

  // Predicted tokens (whole sequences x T) in an epoch; nothing for the built-in language, which has no epochs.
  virtual std::optional<std::int64_t> train_tokens() const = 0;
  virtual std::int64_t train_documents() const = 0;  // 0 for the built-in language

  // Of the training tokens, the vocabulary, T and the seed; not of file names or of the validation.
  virtual std::uint64_t fingerprint() const = 0;

  // Fills whole sequences of T + 1 tokens, one after the other, and moves on. The size of `tokens` is a multiple of
  // T + 1 (else std::invalid_argument).
  virtual void next(std::span<std::int32_t> tokens) = 0;

  // The position, a JSON object on one line. restore() of a position on other data, another T or another seed is an
  // InputError, and so is a text that is no position; the position then stays as it was.
  virtual std::string state() const = 0;
  virtual void restore(std::string_view state) = 0;

  virtual std::int64_t val_sequences() const = 0;  // 0: no validation
  // Sequence `index` of validation, T + 1 tokens (a wrong index or size: std::invalid_argument).
  virtual void val_sequence(std::int64_t index, std::span<std::int32_t> tokens) const = 0;
};

}  // namespace ufp4
