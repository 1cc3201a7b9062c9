// The model of a checkpoint that reads and writes tokens: losses of documents, and text that goes on.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "config/run_config.h"

namespace ufp4 {

struct TextModelSettings {
  std::filesystem::path checkpoint;  // its folder, or that of its run: then the newest
  std::optional<Recipe> recipe;      // nothing: as trained
  DeviceKind device = DeviceKind::kAuto;
  int threads = 1;
};

struct GenerationSettings {
  double temperature = 1;  // 0: always the most probable token
  double top_p = 1;
  std::uint64_t seed = 0;
  std::int64_t max_tokens = 128;
};

class TextModel {
 public:
  // Verifies the checkpoint and loads it. Throws InputError.
  explicit TextModel(const TextModelSettings& settings);
  ~TextModel();
  TextModel(const TextModel&) = delete;
  TextModel& operator=(const TextModel&) = delete;

  const RunConfig& config() const;  // of the run
  const Recipe& recipe() const;
  const std::filesystem::path& checkpoint() const;
  std::int64_t step() const;
  std::string device() const;
  // Whether it was trained on text as bytes.
  bool reads_bytes() const;
  // Its tokenizer.json; nothing if there is none.
  std::optional<std::filesystem::path> tokenizer() const;

  // -log p of each token but the first, in nats. The tokens are read in windows of the model's context, each `stride`
  // tokens behind the one before; a token counts in the first window that has it.
  std::vector<float> losses(std::span<const std::int32_t> tokens, std::int64_t stride) const;

  // [tokens, vocabulary], row by row. Throws InputError for more tokens than the context has.
  std::vector<float> logits(std::span<const std::int32_t> tokens) const;

  // Calls `sink` with every token that follows the prompt, until it returns false, or until max_tokens or the end of
  // the context. The prompt has a token at least. Throws InputError for one that fills the context.
  void generate(std::span<const std::int32_t> prompt, const GenerationSettings& settings,
                const std::function<bool(std::int32_t)>& sink) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace ufp4
