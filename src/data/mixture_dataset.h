// Sequences out of several sources, each as often as its weight says.
//
// Sequence n of a training is the next one of a source that seed and n draw, with the probabilities of the weights.
// Each source has an order and epochs of its own (data/file_dataset.h): a small one with a large weight is seen often.
#pragma once

#include <memory>
#include <vector>

#include "data/file_dataset.h"

namespace ufp4::data {

class MixtureDataset final : public Dataset {
 public:
  // One source for each of the training files. The numbers and names of `config` are checked already.
  explicit MixtureDataset(const DataConfig& config);

  std::int64_t sequence_length() const override { return sources_.front()->sequence_length(); }
  std::int32_t vocab_size() const override { return sources_.front()->vocab_size(); }
  DataTokenizer tokenizer() const override;
  std::optional<double> entropy_rate() const override { return std::nullopt; }
  std::optional<std::int64_t> train_tokens() const override;
  std::int64_t train_documents() const override;
  std::uint64_t fingerprint() const override { return fingerprint_; }
  void next(std::span<std::int32_t> tokens) override;
  std::string state() const override;
  void restore(std::string_view state) override;
  std::int64_t val_sequences() const override;
  void val_sequence(std::int64_t index, std::span<std::int32_t> tokens) const override;

 private:
  void check_same_tokens() const;
  std::size_t drawn_source() const;

  std::uint64_t seed_;
  std::vector<double> weights_;  // their sum is 1
  std::vector<std::unique_ptr<FileDataset>> sources_;
  std::uint64_t fingerprint_ = 0;
  std::int64_t sequence_ = 0;  // the next one
};

}  // namespace ufp4::data
