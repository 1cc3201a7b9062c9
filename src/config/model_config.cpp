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
      key<&ModelConfig::heads>("heads", {1, 4096}, "attention heads, a divisor of d_model", kRequired),
      key<&ModelConfig::kv_heads>("kv_heads", {0, 4096},
                                  "heads of keys and values, a divisor of heads; 0: as many as heads"),
      key<&ModelConfig::ffn>("ffn", {1, 1 << 20}, "width inside the SwiGLU", kRequired),
      key<&ModelConfig::context>("context", {1, 1 << 22}, "tokens a sequence is trained with", kRequired),
      key<&ModelConfig::rope_theta>("rope_theta", {1, 1e12}, "base of the rotary positions"),
      key<&ModelConfig::norm_epsilon>("norm_epsilon", {1e-12, 1}, "added to the mean square in every norm"),
      key<&ModelConfig::qk_norm>("qk_norm", {}, "RMSNorm of every query and key head"),
      key<&ModelConfig::tie_embeddings>("tie_embeddings", {}, "the LM head is the embedding"),
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
  if (config.d_model % config.heads != 0) {
    fail("heads", std::to_string(config.heads), "a divisor of d_model " + std::to_string(config.d_model));
  }
  if (config.head_size() % 2 != 0) {
    fail("heads", std::to_string(config.heads),
         "an even head size, not d_model / heads = " + std::to_string(config.head_size()));
  }
  if (config.kv_heads != 0 && config.heads % config.kv_heads != 0) {
    fail("kv_heads", std::to_string(config.kv_heads), "a divisor of heads " + std::to_string(config.heads));
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
