#include "config/model_config.h"

#include <filesystem>

#include "config/toml_file.h"
#include "embedded_models.h"
#include "numerics/near_name.h"
#include "ufp4/error.h"

namespace ufp4 {
namespace {

constexpr KeyUse kRequired{.initial = "none, needed"};

[[noreturn]] void fail(std::string_view key, std::string_view found, std::string_view expected) {
  throw InputError("model key '" + std::string(key) + "' is " + std::string(found) + ", expected " +
                   std::string(expected));
}

void check_range(const ModelConfig& config, const Key<ModelConfig>& key) {
  const Value value = key.read(config);
  if (!in_range(key.domain, value)) {
    fail(key.name, joined(text_of(key.domain, value)), range_text(key.domain));
  }
}

ModelConfig make_model_config(const std::vector<Assignment>& assignments) {
  ModelConfig config;
  for (const Assignment& assignment : assignments) {
    try {
      if (assignment.array) fail(assignment.key, "a list", "one value");
      set(config, assignment.key, joined(assignment));
    } catch (const InputError& error) {
      throw InputError(assignment.where + ": " + error.what());
    }
  }
  return config;
}

}  // namespace

std::span<const Key<ModelConfig>> model_keys() {
  static const std::vector<Key<ModelConfig>> keys{
      key<&ModelConfig::name>("name", {}, "how tables and reports call it", {.initial = "the file's name"}),
      key<&ModelConfig::summary>("summary", {}, "one line for people"),
      key<&ModelConfig::vocab_size>("vocab_size", {0, 1 << 24},
                                    "different tokens; 0: those of the data, rounded up to a multiple of 64"),
      key<&ModelConfig::d_model>("d_model", {2, 1 << 17}, "width of the residual stream", kRequired),
      key<&ModelConfig::layers>("layers", {1, 1024}, "depth", kRequired),
      key<&ModelConfig::heads>("heads", {1, 4096}, "attention heads, a divisor of d_model if head_size is 0",
                               kRequired),
      key<&ModelConfig::given_head_size>("head_size", {0, 4096}, "width of a head, even; 0: d_model / heads"),
      key<&ModelConfig::kv_heads>("kv_heads", {0, 4096},
                                  "heads of keys and values, a divisor of heads; 0: as many as heads"),
      key<&ModelConfig::ffn>("ffn", {1, 1 << 20}, "width inside the SwiGLU", kRequired),
      key<&ModelConfig::context>("context", {1, 1 << 22}, "tokens a sequence is trained with", kRequired),
      key<&ModelConfig::rope_theta>("rope_theta", {1, 1e12}, "base of the rotary positions"),
      key<&ModelConfig::norm_epsilon>("norm_epsilon", {1e-12, 1}, "added to the mean square in every norm"),
      key<&ModelConfig::qk_norm>("qk_norm", {}, "RMSNorm of queries and keys"),
      key<&ModelConfig::qk_norm_width>("qk_norm_width", {},
                                       "what that norm is over: each head, or all heads of a token"),
      key<&ModelConfig::norm_place>("norm_place", {},
                                    "where the norms of a block stand: before its sublayers, or after them, before "
                                    "the residual addition"),
      key<&ModelConfig::qkv_bias>("qkv_bias", {}, "a bias of queries, keys and values"),
      key<&ModelConfig::tie_embeddings>("tie_embeddings", {}, "the LM head is the embedding"),
      key<&ModelConfig::rope, &RopeSettings::scaling>(
          "rope_scaling", {}, "how the rotary positions are stretched for a longer context than they were made for"),
      key<&ModelConfig::rope, &RopeSettings::factor>("rope_factor", {1, 1e6}, "by how much they are stretched"),
      key<&ModelConfig::rope, &RopeSettings::original_context>(
          "rope_original_context", {0, 1 << 22}, "llama3, yarn: tokens that they were made for; needed there"),
      key<&ModelConfig::rope, &RopeSettings::low_factor>(
          "rope_low_factor", {1e-6, 1e6},
          "llama3: wavelengths beyond rope_original_context / this are stretched in full"),
      key<&ModelConfig::rope, &RopeSettings::high_factor>(
          "rope_high_factor", {1e-6, 1e6}, "llama3: wavelengths below rope_original_context / this stay"),
      key<&ModelConfig::rope, &RopeSettings::beta_fast>(
          "rope_beta_fast", {1e-6, 1e6}, "yarn: turns in rope_original_context tokens from which on nothing changes"),
      key<&ModelConfig::rope, &RopeSettings::beta_slow>("rope_beta_slow", {1e-6, 1e6},
                                                        "yarn: turns up to which all is stretched"),
      key<&ModelConfig::rope, &RopeSettings::attention_factor>(
          "rope_attention_factor", {0, 1e3}, "yarn: factor of the turned queries and keys; 0: 0.1 ln(rope_factor) + 1"),
  };
  return keys;
}

std::vector<std::string_view> model_names() {
  std::vector<std::string_view> names;
  for (const auto& [name, text] : embedded_models()) names.push_back(name);
  return names;
}

std::string_view model_text(std::string_view name) {
  for (const auto& [known, text] : embedded_models()) {
    if (known == name) return text;
  }
  throw InputError("unknown model '" + std::string(name) + "'" + name_hint(name, model_names()));
}

ModelConfig load_model_config(const std::string& name_or_path) {
  const bool is_path = is_toml_path(name_or_path);
  ModelConfig config =
      is_path ? make_model_config(read_toml(name_or_path)) : parse_model_config(model_text(name_or_path), name_or_path);
  if (is_path && config.name == ModelConfig{}.name) config.name = std::filesystem::path(name_or_path).stem().string();
  validate(config);
  return config;
}

ModelConfig parse_model_config(std::string_view toml, std::string_view source) {
  return make_model_config(parse_toml(toml, source));
}

void set(ModelConfig& config, std::string_view key, std::string_view value) {
  const Key<ModelConfig>* const known = find_key(model_keys(), key);
  if (known == nullptr) {
    std::vector<std::string_view> names;
    for (const Key<ModelConfig>& k : model_keys()) names.push_back(k.name);
    throw InputError("unknown model key '" + std::string(key) + "'" + name_hint(key, names));
  }
  const std::optional<Value> parsed = parse_value(known->domain, {std::string(value)});
  if (!parsed) fail(key, "'" + std::string(value) + "'", expectation(known->domain));
  known->write(config, *parsed);
  check_range(config, *known);
}

void validate(const ModelConfig& config) {
  for (const Key<ModelConfig>& key : model_keys()) check_range(config, key);
  if (config.given_head_size == 0 && config.d_model % config.heads != 0) {
    fail("heads", std::to_string(config.heads), "a divisor of d_model " + std::to_string(config.d_model));
  }
  if (config.given_head_size % 2 != 0) fail("head_size", std::to_string(config.given_head_size), "an even number");
  if (config.head_size() % 2 != 0) {
    fail("heads", std::to_string(config.heads),
         "an even head size, not d_model / heads = " + std::to_string(config.head_size()));
  }
  if (config.kv_heads != 0 && config.heads % config.kv_heads != 0) {
    fail("kv_heads", std::to_string(config.kv_heads), "a divisor of heads " + std::to_string(config.heads));
  }
  const RopeSettings& rope = config.rope;
  const bool of_original = rope.scaling == RopeScaling::kLlama3 || rope.scaling == RopeScaling::kYarn;
  if (of_original && rope.original_context == 0) {
    fail("rope_original_context", "0",
         "the context before it was stretched, as rope_scaling is '" + std::string(choice_name(rope.scaling)) + "'");
  }
  if (rope.scaling == RopeScaling::kLlama3 && !(rope.low_factor < rope.high_factor)) {
    fail("rope_low_factor", number_text(rope.low_factor),
         "less than rope_high_factor, " + number_text(rope.high_factor));
  }
  if (rope.scaling == RopeScaling::kYarn && !(rope.beta_slow < rope.beta_fast)) {
    fail("rope_beta_slow", number_text(rope.beta_slow), "less than rope_beta_fast, " + number_text(rope.beta_fast));
  }
}

std::vector<std::pair<std::string, std::string>> entries(const ModelConfig& config) {
  std::vector<std::pair<std::string, std::string>> list;
  for (const Key<ModelConfig>& key : model_keys()) {
    list.emplace_back(key.name, joined(text_of(key.domain, key.read(config))));
  }
  return list;
}

}  // namespace ufp4
