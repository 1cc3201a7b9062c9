// A checkpoint's model with a batch of text for it.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <string>

#include "config/run_config.h"
#include "model/transformer.h"
#include "train/checkpoint_analysis.h"

namespace ufp4 {

class LoadedCheckpoint {
 public:
  // Verifies the checkpoint, reads its settings and the tokens, for models under these recipes and in BF16. Throws
  // InputError.
  LoadedCheckpoint(const BatchSettings& settings, std::span<const Recipe> recipes);

  const RunConfig& config() const { return config_; }
  std::int64_t step() const { return step_; }
  const at::Tensor& tokens() const { return tokens_; }  // [sequences, context + 1], int64

  // The model with the checkpoint's weights under a recipe, on the device of the settings, as the tokens.
  Transformer model(const Recipe& recipe) const;

 private:
  at::Device device_;
  std::filesystem::path folder_;
  RunConfig config_;
  std::int64_t step_ = 0;
  at::Tensor tokens_;
};

// What helps where memory runs out.
std::string fewer_sequences(const BatchSettings& settings);

}  // namespace ufp4
