// Sequences out of files: see data/dataset.h for the order.
#pragma once

#include <memory>
#include <vector>

#include "data/dataset.h"
#include "data/position.h"
#include "data/token_store.h"

namespace ufp4::data {

class FileDataset final : public Dataset {
 public:
  // The numbers and names of `config` are checked already.
  explicit FileDataset(const DataConfig& config);

  std::int64_t sequence_length() const override { return sequence_length_; }
  std::int32_t vocab_size() const override { return train_.vocab_size(); }
  std::int32_t separator() const { return train_.separator(); }
  DataTokenizer tokenizer() const override { return {train_.tokenizer(), train_.tokenized_file()}; }
  std::optional<double> entropy_rate() const override { return std::nullopt; }
  std::optional<std::int64_t> train_tokens() const override { return sequences_ * sequence_length_; }
  std::int64_t train_documents() const override { return static_cast<std::int64_t>(pieces_.size()); }
  std::uint64_t fingerprint() const override { return fingerprint_; }
  void next(std::span<std::int32_t> tokens) override;
  std::string state() const override { return write_position(position_, fingerprint_); }
  void restore(std::string_view state) override;
  std::int64_t val_sequences() const override { return val_sequences_; }
  void val_sequence(std::int64_t index, std::span<std::int32_t> tokens) const override;

 private:
  std::vector<Piece> split(double val_fraction);
  void open_validation(const DataConfig& config, std::vector<Piece> held_out);
  void shuffle();

  std::int64_t sequence_length_;
  std::uint64_t seed_;
  TokenStore train_;
  std::unique_ptr<TokenStore> val_files_;  // where validation has files of its own
  std::vector<Piece> pieces_;              // the training documents, in the order of the files
  std::int64_t sequences_ = 0;             // of an epoch
  std::uint64_t fingerprint_ = 0;

  Position position_;
  TokenRow row_;                     // this epoch's documents in their order
  std::vector<std::int64_t> order_;  // this epoch's sequences in their order

  TokenRow val_row_;
  std::int64_t val_windows_ = 0;    // sequences that the held-out text has
  std::int64_t val_sequences_ = 0;  // of them used
};

}  // namespace ufp4::data
