// Sequences of the built-in language. Every sequence is a text of its own that begins a document: its first token is
// the separator before it. So a position is one number, and a model sees the whole past on which the exact entropy
// rests.
#pragma once

#include "data/dataset.h"
#include "data/language.h"
#include "data/position.h"

namespace ufp4::data {

class LanguageDataset final : public Dataset {
 public:
  // The numbers and names of `config` are checked already.
  explicit LanguageDataset(const DataConfig& config);

  std::int64_t sequence_length() const override { return sequence_length_; }
  std::int32_t vocab_size() const override { return kByteVocabulary; }
  std::optional<double> entropy_rate() const override { return entropy_rate_; }
  std::optional<std::int64_t> train_tokens() const override { return std::nullopt; }
  std::int64_t train_documents() const override { return 0; }
  std::uint64_t fingerprint() const override { return fingerprint_; }
  void next(std::span<std::int32_t> tokens) override;
  std::string state() const override { return write_position({0, sequence_}, fingerprint_); }
  void restore(std::string_view state) override;
  std::int64_t val_sequences() const override { return val_sequences_; }
  void val_sequence(std::int64_t index, std::span<std::int32_t> tokens) const override;

 private:
  const Language& language_;
  std::int64_t sequence_length_;
  std::uint64_t seed_;
  std::int64_t sequence_ = 0;
  std::int64_t val_sequences_;
  double entropy_rate_;
  std::uint64_t fingerprint_;
};

}  // namespace ufp4::data
