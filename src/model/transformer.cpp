#include "model/transformer.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>

#include <c10/core/GradMode.h>

#include <array>
#include <cmath>
#include <memory>
#include <string_view>

#include "model/attention.h"
#include "model/initial_weights.h"
#include "model/layers.h"
#include "model/loss.h"
#include "model/offload.h"
#include "model/sublayers.h"
#include "torch/products.h"
#include "ufp4/error.h"

// Shapes: B sequences, T tokens each, N = B T, D d_model, H heads, K heads of keys and values, S head size, F ffn, V
// vocabulary, C channels of queries, keys and values together.

namespace ufp4 {
namespace {

constexpr double kInitialDeviation = 0.02;

struct Block {
  at::Tensor attention_norm;  // [D]
  Linear qkv;                 // [(H + 2 K) S, D]
  at::Tensor qkv_bias;        // [(H + 2 K) S], with qkv_bias
  at::Tensor q_norm;          // [S] or [H S], with qk_norm
  at::Tensor k_norm;          // [S] or [K S]
  Linear proj;                // [D, H S]
  at::Tensor ffn_norm;        // [D]
  Linear fc1;                 // [2 F, D]: gate and up
  Linear fc2;                 // [D, F]
};

// In the order of their numbers.
std::array<const Linear*, 4> linears_of(const Block& block) {
  return {&block.qkv, &block.proj, &block.fc1, &block.fc2};
}

}  // namespace

struct Transformer::Impl {
  ModelConfig config;
  Recipe recipe;
  TransformerOptions options;
  std::vector<NamedParameter> parameters;
  at::Tensor embedding;  // [V, D]
  std::vector<Block> blocks;
  at::Tensor final_norm;
  at::Tensor lm_head;  // [V, D]
  at::Tensor table_TS;
  std::shared_ptr<Offload> offload;  // null if nothing is to wait elsewhere
  std::uint32_t linear_count = 0;

  Impl(const ModelConfig& c, const Recipe& r, const TransformerOptions& o);

  at::Tensor add_parameter(const std::string& name, const at::Tensor& initial, bool decay);
  at::Tensor add_matrix(const std::string& name, std::int64_t rows, std::int64_t columns, double deviation);
  at::Tensor add_norm(const std::string& name, std::int64_t size);
  at::Tensor add_bias(const std::string& name, std::int64_t size);
  Linear add_linear(const std::string& name, std::int64_t rows, std::int64_t columns, double deviation, Stash stash);
  Block add_block(std::int64_t number);

  // `cache` may be null; with one, the tokens stand behind the `past` ones in it.
  struct Place {
    std::int64_t sequences = 0;
    KeyValueCache* cache = nullptr;
    std::int64_t past = 0;
  };
  at::Tensor attend_to(Block& block, const at::Tensor& qkv_NC, const Place& place);
  at::Tensor block_with_norms_after(Block& block, const at::Tensor& x_ND, const Place& place,
                                    const RandomContext& context);
  Residual attention(Block& block, const Residual& stream, const Place& place, const RandomContext& context,
                     const SublayerOptions& sublayer);
  at::Tensor hidden(const at::Tensor& tokens_BT, const RandomContext& context, Decoding* decoding = nullptr);
  void check_tokens(const at::Tensor& tokens, std::int64_t least_length) const;
};

Transformer::Impl::Impl(const ModelConfig& c, const Recipe& r, const TransformerOptions& o)
    : config(c), recipe(r), options(o) {
  validate(config);
  validate(recipe);
  if (config.vocab_size == 0) throw InputError("model key 'vocab_size' is 0: give it, or take that of the data");
  embedding = add_matrix("embedding", config.vocab_size, config.d_model, kInitialDeviation);
  if (options.offload_layers > 0) {
    offload = std::make_shared<Offload>(options.device, config.layers, options.offload_layers);
  }
  blocks.reserve(static_cast<std::size_t>(config.layers));
  for (std::int64_t i = 0; i < config.layers; ++i) blocks.push_back(add_block(i));
  final_norm = add_norm("final_norm", config.d_model);
  lm_head =
      config.tie_embeddings ? embedding : add_matrix("lm_head", config.vocab_size, config.d_model, kInitialDeviation);
}

at::Tensor Transformer::Impl::add_parameter(const std::string& name, const at::Tensor& initial, bool decay) {
  at::Tensor parameter = initial.to(options.device).set_requires_grad(true);
  parameters.push_back({.name = name, .tensor = parameter, .decay = decay});
  return parameter;
}

at::Tensor Transformer::Impl::add_matrix(const std::string& name, std::int64_t rows, std::int64_t columns,
                                         double deviation) {
  return add_parameter(name, normal_weight({rows, columns}, deviation, options.seed, name), true);
}

at::Tensor Transformer::Impl::add_norm(const std::string& name, std::int64_t size) {
  return add_parameter(name, at::ones({size}, at::kFloat), false);
}

at::Tensor Transformer::Impl::add_bias(const std::string& name, std::int64_t size) {
  return add_parameter(name, at::zeros({size}, at::kFloat), false);
}

Linear Transformer::Impl::add_linear(const std::string& name, std::int64_t rows, std::int64_t columns, double deviation,
                                     Stash stash) {
  return {add_matrix(name, rows, columns, deviation),
          QuantizedLinear(name, linear_count++, recipe,
                          {stash, WeightGradient::kInPlace, options.weight_life, options.products})};
}

Block Transformer::Impl::add_block(std::int64_t number) {
  const std::string prefix = "layers." + std::to_string(number) + ".";
  const std::int64_t d = config.d_model;
  const bool each_head = config.qk_norm_width == QkNormWidth::kHead;
  const std::int64_t q_size = each_head ? config.head_size() : config.attention_size();
  const std::int64_t k_size = each_head ? config.head_size() : config.kv_head_count() * config.head_size();
  const double residual_deviation = kInitialDeviation / std::sqrt(2.0 * static_cast<double>(config.layers));
  at::Tensor attention_norm = add_norm(prefix + "attention_norm", d);
  Linear qkv = add_linear(prefix + "linear_qkv", config.qkv_size(), d, kInitialDeviation, options.stash);
  at::Tensor qkv_bias = config.qkv_bias ? add_bias(prefix + "qkv_bias", config.qkv_size()) : at::Tensor();
  at::Tensor q_norm = config.qk_norm ? add_norm(prefix + "q_norm", q_size) : at::Tensor();
  at::Tensor k_norm = config.qk_norm ? add_norm(prefix + "k_norm", k_size) : at::Tensor();
  // What it reads is the result of attention, which keeps it for its own backward pass: a stash would be kept beside.
  Linear proj = add_linear(prefix + "linear_proj", d, config.attention_size(), residual_deviation, Stash::kNone);
  at::Tensor ffn_norm = add_norm(prefix + "ffn_norm", d);
  Linear fc1 = add_linear(prefix + "linear_fc1", 2 * config.ffn, d, kInitialDeviation, options.stash);
  Linear fc2 = add_linear(prefix + "linear_fc2", d, config.ffn, residual_deviation, options.stash);
  return {attention_norm,  std::move(qkv), qkv_bias,       q_norm,        k_norm,
          std::move(proj), ffn_norm,       std::move(fc1), std::move(fc2)};
}

// Of what linear_qkv made, [N, H S].
at::Tensor Transformer::Impl::attend_to(Block& block, const at::Tensor& qkv_NC, const Place& place) {
  const std::int64_t heads = config.heads;
  const std::int64_t kv_heads = config.kv_head_count();
  const at::Tensor biased_NC = config.qkv_bias ? qkv_NC + block.qkv_bias.to(at::kBFloat16) : qkv_NC;
  at::Tensor qkv_BTHS = biased_NC.view({place.sequences, -1, config.qkv_heads(), config.head_size()});
  if (config.qk_norm) {
    const std::vector<at::Tensor> parts = qkv_BTHS.split_with_sizes({heads, kv_heads, kv_heads}, 2);
    // Over the last axis: of a head, or of all of them joined.
    const auto normed = [&](const at::Tensor& part, const at::Tensor& weight) {
      if (config.qk_norm_width == QkNormWidth::kHead) return rms_norm(part, weight, config.norm_epsilon);
      return rms_norm(part.flatten(2, 3), weight, config.norm_epsilon).view(part.sizes());
    };
    qkv_BTHS = at::cat({normed(parts[0], block.q_norm), normed(parts[1], block.k_norm), parts[2]}, 2);
  }
  const at::Tensor attended = place.cache != nullptr
                                  ? attend_cached(qkv_BTHS, table_TS, heads, *place.cache, place.past)
                                  : rotary_attention(qkv_BTHS, table_TS, heads);
  return attended.view({qkv_NC.size(0), config.attention_size()});
}

// The residual stream behind a block whose norms stand before the additions.
at::Tensor Transformer::Impl::block_with_norms_after(Block& block, const at::Tensor& x_ND, const Place& place,
                                                     const RandomContext& context) {
  const auto apply = [&](Linear& linear, const at::Tensor& x) {
    return linear.layer.forward(x, linear.weight, context);
  };
  const at::Tensor attended = attend_to(block, apply(block.qkv, x_ND), place);
  const at::Tensor middle = x_ND + rms_norm(apply(block.proj, attended), block.attention_norm, config.norm_epsilon);
  const at::Tensor made = apply(block.fc2, swiglu(apply(block.fc1, middle)));
  return middle + rms_norm(made, block.ffn_norm, config.norm_epsilon);
}

// The result of attention, [N, H S], as the branch.
Residual Transformer::Impl::attention(Block& block, const Residual& stream, const Place& place,
                                      const RandomContext& context, const SublayerOptions& sublayer) {
  const AttentionSettings settings{table_TS, place.sequences, config.heads, config.head_size()};
  if (!config.qk_norm && !config.qkv_bias && place.cache == nullptr) {
    return norm_attention(stream, block.attention_norm, block.qkv, settings, context, sublayer);
  }
  const auto [x, qkv_NC] = norm_linear(stream, block.attention_norm, block.qkv, context, sublayer);
  return {x, attend_to(block, qkv_NC, place)};
}

// The normalized output of the last block, [N, D] BF16.
at::Tensor Transformer::Impl::hidden(const at::Tensor& tokens_BT, const RandomContext& context, Decoding* decoding) {
  const std::int64_t positions = decoding != nullptr ? decoding->capacity : tokens_BT.size(1);
  if (!table_TS.defined() || table_TS.size(0) < positions) {
    table_TS = rotary_table(std::max(positions, config.context), config.head_size(), config.rope_theta, options.device,
                            config.rope);
  }
  Residual stream{embed(embedding, tokens_BT.reshape({-1})), {}};
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    Block& block = blocks[i];
    const Place place{tokens_BT.size(0), decoding != nullptr ? &decoding->layers[i] : nullptr,
                      decoding != nullptr ? decoding->past : 0};
    if (config.norm_place == NormPlace::kAfter) {
      stream = {block_with_norms_after(block, stream.x, place, context), {}};
      continue;
    }
    const auto layer = static_cast<std::int64_t>(i);
    const bool recompute = layer >= options.offload_layers && layer < options.offload_layers + options.recompute_layers;
    const SublayerOptions sublayer{config.norm_epsilon, options.fused, recompute, offload, layer};
    const auto [x, attended_ND] = attention(block, stream, place, context, sublayer);
    stream = {x, block.proj.layer.forward(attended_ND, block.proj.weight, context)};
    stream = feed_forward(stream, block.ffn_norm, block.fc1, block.fc2, context, sublayer);
  }
  return rms_norm(stream.x, final_norm, config.norm_epsilon, stream.branch);
}

void Transformer::Impl::check_tokens(const at::Tensor& tokens, std::int64_t least_length) const {
  if (tokens.scalar_type() != at::kLong || tokens.dim() != 2 || tokens.size(0) < 1 || tokens.size(1) < least_length) {
    throw InputError("tokens are " + c10::str(tokens.scalar_type()) + " " + c10::str(tokens.sizes()) +
                     ", expected int64 [sequences, at least " + std::to_string(least_length) + "]");
  }
  if (!tokens.is_cpu()) return;  // a look at the values would wait for the device
  const std::int64_t least = tokens.min().item<std::int64_t>();
  const std::int64_t most = tokens.max().item<std::int64_t>();
  if (least < 0 || most >= config.vocab_size) {
    throw InputError("token " + std::to_string(least < 0 ? least : most) + " is beyond the vocabulary of " +
                     std::to_string(config.vocab_size));
  }
}

std::vector<std::int64_t> linear_sides(const ModelConfig& config) {
  return {config.d_model, config.ffn, config.qkv_size(), config.attention_size()};
}

Transformer::Transformer(const ModelConfig& config, const Recipe& recipe, const TransformerOptions& options)
    : impl_(std::make_unique<Impl>(config, recipe, options)) {}
Transformer::~Transformer() = default;
Transformer::Transformer(Transformer&&) noexcept = default;
Transformer& Transformer::operator=(Transformer&&) noexcept = default;

const ModelConfig& Transformer::config() const { return impl_->config; }
const Recipe& Transformer::recipe() const { return impl_->recipe; }
std::vector<NamedParameter> Transformer::parameters() const { return impl_->parameters; }

std::vector<std::string> Transformer::linears() const {
  std::vector<std::string> names;
  for (const Block& block : impl_->blocks) {
    for (const Linear* linear : linears_of(block)) names.push_back(linear->layer.name());
  }
  return names;
}

bool Transformer::adds_to_stream(std::size_t number) const {
  constexpr std::array kAdded{false, true, false, true};  // as linears_of has them
  return impl_->config.norm_place == NormPlace::kBefore && kAdded.at(number % kAdded.size());
}

std::vector<std::string> Transformer::bf16_linears() const {
  std::vector<std::string> names = linears();
  std::erase_if(names,
                [&](const std::string& name) { return impl_->recipe.quantized() && !impl_->recipe.keeps_bf16(name); });
  return names;
}

at::Tensor Transformer::loss(const at::Tensor& tokens, const RandomContext& context) {
  impl_->check_tokens(tokens, 2);
  const at::Tensor on_device = tokens.to(impl_->options.device);
  const std::int64_t length = tokens.size(1) - 1;
  const at::Tensor hidden = impl_->hidden(on_device.narrow(1, 0, length), context);
  const std::int64_t chunk = impl_->options.loss_chunk > 0
                                 ? impl_->options.loss_chunk
                                 : default_loss_chunk(impl_->config.vocab_size, impl_->options.device);
  return head_cross_entropy(hidden, impl_->lm_head, on_device.narrow(1, 1, length).reshape({-1}), chunk);
}

at::Tensor Transformer::loss_no_grad(const at::Tensor& tokens, const RandomContext& context) {
  const c10::NoGradGuard no_grad;
  return loss(tokens, context);
}

at::Tensor Transformer::logits(const at::Tensor& tokens, const RandomContext& context) {
  const c10::NoGradGuard no_grad;
  impl_->check_tokens(tokens, 1);
  const at::Tensor hidden = impl_->hidden(tokens.to(impl_->options.device), context);
  const at::Tensor logits = matmul_transposed(hidden, impl_->lm_head.to(at::kBFloat16));
  return logits.view({tokens.size(0), tokens.size(1), impl_->config.vocab_size});
}

at::Tensor Transformer::token_losses(const at::Tensor& tokens, const RandomContext& context) {
  const c10::NoGradGuard no_grad;
  impl_->check_tokens(tokens, 2);
  const at::Tensor on_device = tokens.to(impl_->options.device);
  const std::int64_t length = tokens.size(1) - 1;
  const at::Tensor hidden = impl_->hidden(on_device.narrow(1, 0, length), context);
  const at::Tensor targets = on_device.narrow(1, 1, length).reshape({-1});
  return head_token_losses(hidden, impl_->lm_head, targets,
                           default_loss_chunk(impl_->config.vocab_size, impl_->options.device))
      .view({tokens.size(0), length});
}

Decoding Transformer::begin_decoding(std::int64_t capacity) const {
  const ModelConfig& config = impl_->config;
  Decoding decoding{{}, capacity, 0};
  const auto options = at::TensorOptions().dtype(at::kBFloat16).device(impl_->options.device);
  for (std::int64_t i = 0; i < config.layers; ++i) {
    const auto empty = [&] { return at::zeros({1, capacity, config.kv_head_count(), config.head_size()}, options); };
    decoding.layers.push_back({empty(), empty()});
  }
  return decoding;
}

at::Tensor Transformer::extend(const at::Tensor& tokens, Decoding& decoding, const RandomContext& context) {
  const c10::NoGradGuard no_grad;
  impl_->check_tokens(tokens, 1);
  if (tokens.size(0) != 1 || decoding.past + tokens.size(1) > decoding.capacity) {
    throw InputError("a text of " + std::to_string(decoding.past + tokens.size(1)) + " tokens, expected one of up to " +
                     std::to_string(decoding.capacity));
  }
  const at::Tensor hidden = impl_->hidden(tokens.to(impl_->options.device), context, &decoding);
  decoding.past += tokens.size(1);
  const at::Tensor last = hidden.narrow(0, hidden.size(0) - 1, 1);
  return matmul_transposed(last, impl_->lm_head.to(at::kBFloat16)).view({impl_->config.vocab_size});
}

double Transformer::flops_per_token() const { return training_flops_per_token(impl_->config); }

}  // namespace ufp4
