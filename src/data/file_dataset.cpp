#include "data/file_dataset.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "data/requests.h"
#include "data/shuffle.h"
#include "ufp4/error.h"

namespace ufp4::data {
namespace {

// The split must be the same for every seed, so that their validation losses can be compared.
constexpr std::uint64_t kSplitSeed = 0;

std::int64_t tokens_of(const std::vector<Piece>& pieces) {
  std::int64_t tokens = 0;
  for (const Piece& piece : pieces) tokens += piece.length + 1;
  return tokens;
}

std::int64_t windows_of(std::int64_t tokens, std::int64_t sequence_length) {
  return std::max<std::int64_t>(tokens - 1, 0) / sequence_length;
}

void require_one(std::int64_t windows, const char* what, std::int64_t tokens, std::int64_t sequence_length) {
  if (windows > 0) return;
  throw InputError(std::string("data: the ") + what + " text has " + std::to_string(tokens) +
                   " tokens, too few for one sequence of " + std::to_string(sequence_length) + " + 1");
}

}  // namespace

FileDataset::FileDataset(const DataConfig& config)
    : sequence_length_(config.sequence_length),
      seed_(config.seed),
      train_(config.train_files, config.memory_limit, config.tokens),
      pieces_(train_.documents()),
      row_(train_, {}),
      val_row_(train_, {}) {
  std::vector<Piece> held_out;
  if (config.val_files.empty() && config.val_fraction > 0) held_out = split(config.val_fraction);
  const std::int64_t tokens = tokens_of(pieces_);
  sequences_ = windows_of(tokens, sequence_length_);
  require_one(sequences_, "training", tokens, sequence_length_);

  std::string identity = train_.checksum() + " " + std::to_string(sequence_length_) + " " + std::to_string(seed_);
  for (const Piece& piece : held_out) {
    identity +=
        " " + std::to_string(piece.source) + ":" + std::to_string(piece.first) + "+" + std::to_string(piece.length);
  }
  fingerprint_ = fingerprint_of(identity);

  open_validation(config, std::move(held_out));
  shuffle();
}

// Takes the held-out documents away from the training documents.
std::vector<Piece> FileDataset::split(double val_fraction) {
  std::vector<Piece> held_out;
  if (pieces_.size() == 1) {
    Piece& only = pieces_.front();
    const auto tail = static_cast<std::int64_t>(std::llround(val_fraction * static_cast<double>(only.length)));
    if (tail < 1 || tail >= only.length) {
      throw InputError("data: a val_fraction of " + std::to_string(val_fraction) +
                       " splits nothing off a document of " + std::to_string(only.length) + " tokens");
    }
    held_out.push_back({only.source, only.first + only.length - tail, tail});
    only.length -= tail;
    return held_out;
  }
  const auto documents = static_cast<std::int64_t>(pieces_.size());
  const auto wanted = static_cast<std::int64_t>(std::llround(val_fraction * static_cast<double>(documents)));
  const auto count = static_cast<std::size_t>(std::clamp<std::int64_t>(wanted, 1, documents - 1));
  std::vector<std::int64_t> drawn = permutation(documents, kSplitSeed, Purpose::kSplit, 0);
  std::sort(drawn.begin(), drawn.begin() + static_cast<std::ptrdiff_t>(count));
  std::vector<Piece> kept;
  auto next_held = drawn.begin();
  const auto end_held = drawn.begin() + static_cast<std::ptrdiff_t>(count);
  for (std::int64_t i = 0; i < documents; ++i) {
    const bool held = next_held != end_held && *next_held == i;
    (held ? held_out : kept).push_back(pieces_[static_cast<std::size_t>(i)]);
    if (held) ++next_held;
  }
  pieces_ = std::move(kept);
  return held_out;
}

void FileDataset::open_validation(const DataConfig& config, std::vector<Piece> held_out) {
  const TokenStore* store = &train_;
  if (!config.val_files.empty()) {
    val_files_ = std::make_unique<TokenStore>(config.val_files, config.memory_limit, config.tokens);
    if (val_files_->vocab_size() != train_.vocab_size() || val_files_->separator() != train_.separator()) {
      throw InputError("data: the validation files have a vocabulary of " + std::to_string(val_files_->vocab_size()) +
                       " with separator " + std::to_string(val_files_->separator()) + ", the training files one of " +
                       std::to_string(train_.vocab_size()) + " with separator " + std::to_string(train_.separator()));
    }
    if (train_.tokenizer() != 0 && val_files_->tokenizer() != 0 && train_.tokenizer() != val_files_->tokenizer()) {
      throw InputError(val_files_->tokenized_file() + ": its tokens are of another tokenizer than those of " +
                       train_.tokenized_file());
    }
    store = val_files_.get();
    held_out = store->documents();
  }
  if (held_out.empty()) return;
  val_row_ = TokenRow(*store, std::move(held_out));
  val_windows_ = windows_of(val_row_.size(), sequence_length_);
  require_one(val_windows_, "validation", val_row_.size(), sequence_length_);
  val_sequences_ = val_windows_;
  if (config.val_tokens > 0) {
    val_sequences_ = std::clamp<std::int64_t>(config.val_tokens / sequence_length_, 1, val_windows_);
  }
}

// Puts the documents and sequences of the position's epoch into their order.
void FileDataset::shuffle() {
  std::vector<Piece> shuffled;
  shuffled.reserve(pieces_.size());
  for (const std::int64_t i :
       permutation(static_cast<std::int64_t>(pieces_.size()), seed_, Purpose::kDocuments, position_.epoch)) {
    shuffled.push_back(pieces_[static_cast<std::size_t>(i)]);
  }
  row_ = TokenRow(train_, std::move(shuffled));
  order_ = permutation(sequences_, seed_, Purpose::kSequences, position_.epoch);
}

void FileDataset::next(std::span<std::int32_t> tokens) {
  const auto width = static_cast<std::size_t>(sequence_length_ + 1);
  train_.check_unchanged();
  for (std::int64_t left = whole_sequences(tokens.size(), sequence_length_); left > 0; --left) {
    if (position_.sequence == sequences_) {
      position_ = {position_.epoch + 1, 0};
      shuffle();
    }
    row_.copy(order_[static_cast<std::size_t>(position_.sequence)] * sequence_length_, tokens.first(width));
    tokens = tokens.subspan(width);
    ++position_.sequence;
  }
}

void FileDataset::restore(std::string_view state) {
  const Position position = read_position(state, fingerprint_, sequences_);
  const bool same_epoch = position.epoch == position_.epoch;
  position_ = position;
  if (!same_epoch) shuffle();
}

void FileDataset::val_sequence(std::int64_t index, std::span<std::int32_t> tokens) const {
  check_val_request(index, val_sequences_, tokens.size(), sequence_length_);
  (val_files_ ? *val_files_ : train_).check_unchanged();
  // index * windows / sequences without overflow: spread evenly, the first always in.
  const std::int64_t window =
      index * (val_windows_ / val_sequences_) + index * (val_windows_ % val_sequences_) / val_sequences_;
  val_row_.copy(window * sequence_length_, tokens);
}

}  // namespace ufp4::data
