#include "data/mixture_dataset.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>

#include "data/requests.h"
#include "data/shuffle.h"
#include "io/json.h"
#include "ufp4/error.h"

namespace ufp4::data {

MixtureDataset::MixtureDataset(const DataConfig& config) : seed_(config.seed), weights_(config.weights) {
  const double total = std::accumulate(weights_.begin(), weights_.end(), 0.0);
  for (double& weight : weights_) weight /= total;
  std::string identity;
  for (std::size_t i = 0; i < config.train_files.size(); ++i) {
    DataConfig own = config;
    own.train_files = {config.train_files[i]};
    own.weights.clear();
    // Files for validation belong to no source: the first one reads them. Else each holds out a share of its own.
    if (!config.val_files.empty() && i > 0) own.val_files.clear();
    if (!config.val_files.empty()) own.val_fraction = 0;
    if (config.val_files.empty() && config.val_tokens > 0) {
      own.val_tokens = std::max<std::int64_t>(1, std::llround(static_cast<double>(config.val_tokens) * weights_[i]));
    }
    sources_.push_back(std::make_unique<FileDataset>(own));
    identity += std::to_string(sources_.back()->fingerprint()) + "*" + std::to_string(config.weights[i]) + " ";
  }
  check_same_tokens();
  fingerprint_ = fingerprint_of(identity);
}

void MixtureDataset::check_same_tokens() const {
  const FileDataset& first = *sources_.front();
  for (const auto& source : sources_) {
    if (source->vocab_size() != first.vocab_size() || source->separator() != first.separator()) {
      throw InputError("data: a source has a vocabulary of " + std::to_string(source->vocab_size()) +
                       " with separator " + std::to_string(source->separator()) + ", the first one has " +
                       std::to_string(first.vocab_size()) + " with separator " + std::to_string(first.separator()));
    }
    const DataTokenizer own = source->tokenizer();
    const DataTokenizer known = tokenizer();
    if (own.hash != 0 && own.hash != known.hash) {
      throw InputError(own.file + ": its tokens are of another tokenizer than those of " + known.file);
    }
  }
}

DataTokenizer MixtureDataset::tokenizer() const {
  for (const auto& source : sources_) {
    if (source->tokenizer().hash != 0) return source->tokenizer();
  }
  return {};
}

std::optional<std::int64_t> MixtureDataset::train_tokens() const {
  std::int64_t tokens = 0;
  for (const auto& source : sources_) tokens += source->train_tokens().value_or(0);
  return tokens;
}

std::int64_t MixtureDataset::train_documents() const {
  std::int64_t documents = 0;
  for (const auto& source : sources_) documents += source->train_documents();
  return documents;
}

std::size_t MixtureDataset::drawn_source() const {
  const std::uint64_t bits = random64(seed_, Purpose::kSource, static_cast<std::uint64_t>(sequence_), 0);
  double rest = static_cast<double>(bits >> 11) * 0x1p-53;
  for (std::size_t i = 0; i + 1 < weights_.size(); ++i) {
    if (rest < weights_[i]) return i;
    rest -= weights_[i];
  }
  return weights_.size() - 1;
}

void MixtureDataset::next(std::span<std::int32_t> tokens) {
  const auto width = static_cast<std::size_t>(sequence_length() + 1);
  for (std::int64_t left = whole_sequences(tokens.size(), sequence_length()); left > 0; --left) {
    sources_[drawn_source()]->next(tokens.first(width));
    tokens = tokens.subspan(width);
    ++sequence_;
  }
}

std::string MixtureDataset::state() const {
  nlohmann::json json{{"data", std::to_string(fingerprint_)}, {"sequence", sequence_}};
  for (const auto& source : sources_) json["sources"].push_back(nlohmann::json::parse(source->state()));
  return json.dump();
}

void MixtureDataset::restore(std::string_view state) {
  const std::string where = "position of the training data";
  const nlohmann::json json = io::parse_json(state, where);
  const std::string saved = io::text_value(json, "data", where);
  const std::int64_t sequence = io::whole_number(json, "sequence", where);
  const auto sources = json.find("sources");
  if (saved != std::to_string(fingerprint_) || sources == json.end() || !sources->is_array() ||
      sources->size() != sources_.size()) {
    throw InputError(where + ": it was taken on other data, or with other weights, another sequence length or seed");
  }
  std::vector<std::string> before;
  for (const auto& source : sources_) before.push_back(source->state());
  try {
    for (std::size_t i = 0; i < sources_.size(); ++i) sources_[i]->restore((*sources)[i].dump());
  } catch (const InputError&) {
    for (std::size_t i = 0; i < sources_.size(); ++i) sources_[i]->restore(before[i]);
    throw;
  }
  sequence_ = sequence;
}

std::int64_t MixtureDataset::val_sequences() const {
  std::int64_t count = 0;
  for (const auto& source : sources_) count += source->val_sequences();
  return count;
}

void MixtureDataset::val_sequence(std::int64_t index, std::span<std::int32_t> tokens) const {
  check_val_request(index, val_sequences(), tokens.size(), sequence_length());
  for (const auto& source : sources_) {
    if (index < source->val_sequences()) return source->val_sequence(index, tokens);
    index -= source->val_sequences();
  }
}

}  // namespace ufp4::data
