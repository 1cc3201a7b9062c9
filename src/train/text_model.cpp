#include "train/text_model.h"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <cstring>

#include "data/dataset.h"
#include "data/text_reader.h"
#include "io/checkpoint_folders.h"
#include "io/tokenizer_file.h"
#include "model/sampling.h"
#include "model/transformer.h"
#include "train/checkpoint.h"
#include "train/device.h"
#include "train/torch_error.h"
#include "ufp4/error.h"

namespace ufp4 {
namespace {

namespace fs = std::filesystem;

constexpr const char* kShorter = "a smaller --context, or a device with more memory";

at::Tensor tensor_of(std::span<const std::int32_t> tokens) {
  const at::Tensor row = at::empty({1, static_cast<std::int64_t>(tokens.size())}, at::kInt);
  std::memcpy(row.mutable_data_ptr(), tokens.data(), tokens.size_bytes());
  return row.to(at::kLong);
}

std::vector<float> floats_of(const at::Tensor& tensor) {
  const at::Tensor host = tensor.to(at::kFloat).cpu().contiguous();
  const float* const first = host.const_data_ptr<float>();
  return {first, first + host.numel()};
}

RunConfig config_of(const fs::path& checkpoint) {
  io::verify_checkpoint(checkpoint);
  return make_run_config(read_toml(checkpoint / "config.toml"));
}

bool is_shard(const std::string& file) { return file.ends_with(data::kShardEnding); }

}  // namespace

struct TextModel::Impl {
  fs::path checkpoint;
  RunConfig config;
  Recipe recipe;
  RunState state;
  DeviceChoice choice;
  mutable Transformer model;

  explicit Impl(const TextModelSettings& settings)
      : checkpoint(io::find_checkpoint(settings.checkpoint)),
        config(config_of(checkpoint)),
        recipe(settings.recipe.value_or(config.recipe)),
        state(read_state(checkpoint)),
        choice(choose_device(settings.device, "--device", config.model, {&recipe, 1})),
        model(config.model, recipe, {.device = choice.device, .weight_life = WeightLife::kStep}) {
    NamedTensors weights;
    for (const NamedParameter& parameter : model.parameters()) weights.emplace_back(parameter.name, parameter.tensor);
    load_tensors(checkpoint / "model.safetensors", weights);
  }

  // Signs and draws as in the step that follows.
  RandomContext context() const {
    return {.seed = static_cast<std::uint64_t>(config.train.seed), .step = static_cast<std::uint32_t>(state.step)};
  }

  void check(std::span<const std::int32_t> tokens) const {
    for (const std::int32_t token : tokens) {
      if (token >= 0 && token < config.model.vocab_size) continue;
      throw InputError("token " + std::to_string(token) + " is beyond the vocabulary of '" + checkpoint.string() +
                       "', " + std::to_string(config.model.vocab_size));
    }
  }
};

TextModel::TextModel(const TextModelSettings& settings) {
  at::set_num_threads(settings.threads);
  try {
    impl_ = std::make_unique<Impl>(settings);
  } catch (const c10::Error& error) {
    throw_plain(error, "a smaller model, or a device with more memory");
  }
}
TextModel::~TextModel() = default;

const RunConfig& TextModel::config() const { return impl_->config; }
const Recipe& TextModel::recipe() const { return impl_->recipe; }
const fs::path& TextModel::checkpoint() const { return impl_->checkpoint; }
std::int64_t TextModel::step() const { return impl_->state.step; }
std::string TextModel::device() const { return std::string(impl_->choice.name()); }

bool TextModel::reads_bytes() const {
  const std::vector<std::string>& files = impl_->config.data.train;
  return !tokenizer() && !impl_->state.data_fingerprint.empty() && impl_->config.model.vocab_size >= kByteVocabulary &&
         std::none_of(files.begin(), files.end(), is_shard);
}

std::optional<fs::path> TextModel::tokenizer() const { return io::tokenizer_of(impl_->checkpoint); }

std::vector<float> TextModel::losses(std::span<const std::int32_t> tokens, std::int64_t stride) const try {
  impl_->check(tokens);
  const std::int64_t context = impl_->config.model.context;
  if (stride < 1 || stride > context) {
    throw InputError("--stride is " + std::to_string(stride) + ", expected 1 to the model's context, " +
                     std::to_string(context));
  }
  const auto targets = static_cast<std::int64_t>(tokens.size()) - 1;
  std::vector<float> all;
  for (std::int64_t first = 0; static_cast<std::int64_t>(all.size()) < targets; first += stride) {
    const std::int64_t length = std::min(context, targets - first);
    const auto window = tokens.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(length + 1));
    const std::vector<float> found = floats_of(impl_->model.token_losses(tensor_of(window), impl_->context()));
    const auto known = static_cast<std::int64_t>(all.size()) - first;  // of earlier windows
    all.insert(all.end(), found.begin() + known, found.end());
  }
  return all;
} catch (const c10::Error& error) {
  throw_plain(error, kShorter);
}

std::vector<float> TextModel::logits(std::span<const std::int32_t> tokens) const try {
  impl_->check(tokens);
  if (static_cast<std::int64_t>(tokens.size()) > impl_->config.model.context) {
    throw InputError("a document of " + std::to_string(tokens.size()) +
                     " tokens, expected at most the model's context, " + std::to_string(impl_->config.model.context) +
                     ", for logits");
  }
  return floats_of(impl_->model.logits(tensor_of(tokens), impl_->context()));
} catch (const c10::Error& error) {
  throw_plain(error, kShorter);
}

void TextModel::generate(std::span<const std::int32_t> prompt, const GenerationSettings& settings,
                         const std::function<bool(std::int32_t)>& sink) const try {
  impl_->check(prompt);
  const std::int64_t context = impl_->config.model.context;
  const auto length = static_cast<std::int64_t>(prompt.size());
  if (length >= context) {
    throw InputError("the prompt has " + std::to_string(length) + " tokens, expected fewer than the model's context, " +
                     std::to_string(context));
  }
  const std::int64_t count = std::min(settings.max_tokens, context - length);
  const Sampling sampling{settings.temperature, settings.top_p, settings.seed};
  Decoding decoding = impl_->model.begin_decoding(length + count);
  at::Tensor next = tensor_of(prompt);
  for (std::int64_t i = 0; i < count; ++i) {
    const std::vector<float> logits = floats_of(impl_->model.extend(next, decoding, impl_->context()));
    const std::int32_t token = sample(logits, sampling, static_cast<std::uint64_t>(i));
    if (!sink(token)) return;
    next = tensor_of({&token, 1});
  }
} catch (const c10::Error& error) {
  throw_plain(error, kShorter);
}

}  // namespace ufp4
