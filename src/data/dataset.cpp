#include "data/dataset.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <set>
#include <stdexcept>

#include "data/file_dataset.h"
#include "data/language_dataset.h"
#include "data/mixture_dataset.h"
#include "data/requests.h"
#include "ufp4/error.h"

namespace ufp4 {
namespace {

// Absurd lengths are refused here, before any memory is taken.
constexpr std::int64_t kMaxSequenceLength = std::int64_t{1} << 24;

void check_numbers(const DataConfig& config) {
  const auto wrong = [](const std::string& key, const std::string& found, const std::string& expected) {
    throw InputError("data: " + key + " is " + found + "; expected " + expected);
  };
  if (config.sequence_length < 1 || config.sequence_length > kMaxSequenceLength) {
    wrong("the sequence length", std::to_string(config.sequence_length), "1 to " + std::to_string(kMaxSequenceLength));
  }
  if (config.val_tokens < 0) wrong("val_tokens", std::to_string(config.val_tokens), "0 (all) or more");
  if (!(config.val_fraction >= 0 && config.val_fraction < 1)) {
    wrong("val_fraction", std::to_string(config.val_fraction), "0 (no validation) or more, and less than 1");
  }
  if (config.memory_limit < 0) wrong("memory_limit", std::to_string(config.memory_limit), "0 or more bytes");
}

// The same text twice would be learned twice as fast, and validation on it would measure memory.
void check_distinct(const DataConfig& config) {
  std::set<std::filesystem::path> seen;
  for (const auto* files : {&config.train_files, &config.val_files}) {
    for (const std::string& file : *files) {
      std::error_code missing;
      const std::filesystem::path path = std::filesystem::weakly_canonical(file, missing);
      if (!seen.insert(missing ? std::filesystem::path(file) : path).second) {
        throw InputError(file + (files == &config.val_files ? ": named for validation, and named before"
                                                            : ": named twice for training"));
      }
    }
  }
}

void check_weights(const DataConfig& config) {
  if (config.weights.empty()) return;
  if (config.weights.size() != config.train_files.size()) {
    throw InputError("data: " + std::to_string(config.weights.size()) +
                     " weights (data.weights), expected one for each of the " +
                     std::to_string(config.train_files.size()) + " files to train on");
  }
  for (const double weight : config.weights) {
    if (std::isfinite(weight) && weight > 0) continue;
    throw InputError("data: a weight of " + std::to_string(weight) + " (data.weights), expected numbers above 0");
  }
}

bool names_builtin(const std::vector<std::string>& files) {
  return std::find(files.begin(), files.end(), kBuiltinLanguage) != files.end();
}

}  // namespace

std::unique_ptr<Dataset> Dataset::open(const DataConfig& config) {
  check_numbers(config);
  if (config.train_files.empty()) {
    throw InputError("data: no files to train on; name some, or '" + std::string(kBuiltinLanguage) + "'");
  }
  if (names_builtin(config.train_files) || names_builtin(config.val_files)) {
    if (config.train_files.size() != 1 || !names_builtin(config.train_files) || config.val_files.size() > 1 ||
        (config.val_files.size() == 1 && !names_builtin(config.val_files))) {
      throw InputError("data: '" + std::string(kBuiltinLanguage) + "' stands alone and cannot be mixed with files");
    }
    return std::make_unique<data::LanguageDataset>(config);
  }
  check_distinct(config);
  check_weights(config);
  if (!config.weights.empty()) return std::make_unique<data::MixtureDataset>(config);
  return std::make_unique<data::FileDataset>(config);
}

namespace data {

std::int64_t whole_sequences(std::size_t tokens, std::int64_t sequence_length) {
  const auto width = static_cast<std::size_t>(sequence_length + 1);
  if (tokens % width != 0) {
    throw std::invalid_argument("Dataset: " + std::to_string(tokens) + " tokens are no whole sequences of " +
                                std::to_string(width));
  }
  return static_cast<std::int64_t>(tokens / width);
}

void check_val_request(std::int64_t index, std::int64_t count, std::size_t tokens, std::int64_t sequence_length) {
  if (index < 0 || index >= count || tokens != static_cast<std::size_t>(sequence_length + 1)) {
    throw std::invalid_argument("Dataset: validation sequence " + std::to_string(index) + " of " +
                                std::to_string(count) + ", " + std::to_string(tokens) + " tokens");
  }
}

}  // namespace data
}  // namespace ufp4
