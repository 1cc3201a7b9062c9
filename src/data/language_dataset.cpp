#include "data/language_dataset.h"

#include <algorithm>
#include <limits>
#include <string>

#include "data/requests.h"
#include "ufp4/error.h"

namespace ufp4::data {
namespace {

// Validation is the same text for every seed.
constexpr std::uint64_t kValSeed = 0;

void fill(const Language& language, std::uint64_t seed, Purpose purpose, std::int64_t index,
          std::span<std::int32_t> tokens) {
  Text text(language, seed, purpose, static_cast<std::uint64_t>(index));
  tokens.front() = kEndOfDocument;
  for (std::int32_t& token : tokens.subspan(1)) token = text.next();
}

std::int64_t count_val_sequences(const DataConfig& config) {
  if (config.val_tokens == 0) {
    throw InputError("data: val_tokens is 0 (all), but the built-in language has no end; expected 1 or more");
  }
  return std::max<std::int64_t>(config.val_tokens / config.sequence_length, 1);
}

}  // namespace

LanguageDataset::LanguageDataset(const DataConfig& config)
    : language_(Language::builtin()),
      sequence_length_(config.sequence_length),
      seed_(config.seed),
      val_sequences_(count_val_sequences(config)),
      entropy_rate_(language_.mean_entropy(sequence_length_)),
      fingerprint_(fingerprint_of(std::string(kBuiltinLanguage) + " " + std::to_string(Language::kVersion) + " " +
                                  std::to_string(sequence_length_) + " " + std::to_string(seed_))) {}

void LanguageDataset::next(std::span<std::int32_t> tokens) {
  const auto width = static_cast<std::size_t>(sequence_length_ + 1);
  for (std::int64_t left = whole_sequences(tokens.size(), sequence_length_); left > 0; --left) {
    fill(language_, seed_, Purpose::kTrainText, sequence_++, tokens.first(width));
    tokens = tokens.subspan(width);
  }
}

void LanguageDataset::restore(std::string_view state) {
  sequence_ = read_position(state, fingerprint_, std::numeric_limits<std::int64_t>::max()).sequence;
}

void LanguageDataset::val_sequence(std::int64_t index, std::span<std::int32_t> tokens) const {
  check_val_request(index, val_sequences_, tokens.size(), sequence_length_);
  fill(language_, kValSeed, Purpose::kValText, index, tokens);
}

}  // namespace ufp4::data
