#include "model/model_config.h"

#include <array>
#include <charconv>
#include <fstream>
#include <iterator>
#include <variant>

#include <toml++/toml.h>

#include "embedded_models.h"
#include "numerics/near_name.h"
#include "ufp4/error.h"

namespace ufp4 {
namespace {

// One key of the configuration: where its value is and, for a number, the range that makes sense.
struct Key {
  std::string_view name;
  std::variant<std::string ModelConfig::*, std::int64_t ModelConfig::*, double ModelConfig::*, bool ModelConfig::*>
      member;
  double least = 0;
  double most = 0;
};

constexpr std::array kKeys{
    Key{"name", &ModelConfig::name},
    Key{"summary", &ModelConfig::summary},
    Key{"vocab_size", &ModelConfig::vocab_size, 0, 1 << 24},
    Key{"d_model", &ModelConfig::d_model, 2, 1 << 17},
    Key{"layers", &ModelConfig::layers, 1, 1024},
    Key{"heads", &ModelConfig::heads, 1, 4096},
    Key{"kv_heads", &ModelConfig::kv_heads, 0, 4096},
    Key{"ffn", &ModelConfig::ffn, 1, 1 << 20},
    Key{"context", &ModelConfig::context, 1, 1 << 22},
    Key{"rope_theta", &ModelConfig::rope_theta, 1, 1e12},
    Key{"norm_epsilon", &ModelConfig::norm_epsilon, 1e-12, 1},
    Key{"qk_norm", &ModelConfig::qk_norm},
    Key{"tie_embeddings", &ModelConfig::tie_embeddings},
};

[[noreturn]] void fail(std::string_view key, std::string_view found, std::string_view expected) {
  throw InputError("model key '" + std::string(key) + "' is " + std::string(found) + ", expected " +
                   std::string(expected));
}

template <typename Number>
Number parse_number(std::string_view key, std::string_view text, std::string_view expected) {
  Number number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) fail(key, "'" + std::string(text) + "'", expected);
  return number;
}

std::string number_text(double value) {
  std::array<char, 32> buffer{};
  const auto result = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value);
  return {buffer.data(), result.ptr};
}

// The value of a TOML entry as the text that set() takes.
std::string value_text(const toml::node& node, std::string_view key) {
  if (const auto* text = node.as_string()) return text->get();
  if (const auto* number = node.as_integer()) return std::to_string(number->get());
  if (const auto* number = node.as_floating_point()) return number_text(number->get());
  if (const auto* flag = node.as_boolean()) return flag->get() ? "true" : "false";
  fail(key, "a table or a list", "one value");
}

std::string read_text(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw InputError("model file '" + path.string() + "' cannot be read");
  return {std::istreambuf_iterator<char>(in), {}};
}

void check_range(const ModelConfig& config, const Key& key) {
  const auto check = [&](double value) {
    if (!(value >= key.least && value <= key.most)) {
      fail(key.name, number_text(value), number_text(key.least) + " to " + number_text(key.most));
    }
  };
  if (const auto* integer = std::get_if<std::int64_t ModelConfig::*>(&key.member)) {
    check(static_cast<double>(config.*(*integer)));
  } else if (const auto* real = std::get_if<double ModelConfig::*>(&key.member)) {
    check(config.*(*real));
  }
}

}  // namespace

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
  const bool is_path = name_or_path.find('/') != std::string::npos || name_or_path.ends_with(".toml");
  ModelConfig config = is_path ? parse_model_config(read_text(name_or_path), name_or_path)
                               : parse_model_config(model_text(name_or_path), name_or_path);
  if (is_path && config.name == ModelConfig{}.name) config.name = std::filesystem::path(name_or_path).stem().string();
  validate(config);
  return config;
}

ModelConfig parse_model_config(std::string_view toml, std::string_view source) {
  ModelConfig config;
  try {
    const toml::table table = toml::parse(toml, source);
    for (const auto& [key, node] : table) {
      try {
        set(config, key.str(), value_text(node, key.str()));
      } catch (const InputError& error) {
        throw InputError(std::string(source) + ":" + std::to_string(key.source().begin.line) + ": " + error.what());
      }
    }
  } catch (const toml::parse_error& error) {
    throw InputError(std::string(source) + ":" + std::to_string(error.source().begin.line) + ": " +
                     std::string(error.description()));
  }
  return config;
}

void set(ModelConfig& config, std::string_view key, std::string_view value) {
  for (const Key& known : kKeys) {
    if (known.name != key) continue;
    if (const auto* text = std::get_if<std::string ModelConfig::*>(&known.member)) {
      config.*(*text) = value;
    } else if (const auto* integer = std::get_if<std::int64_t ModelConfig::*>(&known.member)) {
      config.*(*integer) = parse_number<std::int64_t>(key, value, "a whole number");
    } else if (const auto* real = std::get_if<double ModelConfig::*>(&known.member)) {
      config.*(*real) = parse_number<double>(key, value, "a number");
    } else {
      if (value != "true" && value != "false") fail(key, "'" + std::string(value) + "'", "true or false");
      config.*std::get<bool ModelConfig::*>(known.member) = value == "true";
    }
    check_range(config, known);
    return;
  }
  std::array<std::string_view, kKeys.size()> names;
  for (std::size_t i = 0; i < names.size(); ++i) names[i] = kKeys[i].name;
  throw InputError("unknown model key '" + std::string(key) + "'" + name_hint(key, names));
}

void validate(const ModelConfig& config) {
  for (const Key& key : kKeys) check_range(config, key);
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
  for (const Key& key : kKeys) {
    std::string text;
    if (const auto* string = std::get_if<std::string ModelConfig::*>(&key.member)) {
      text = config.*(*string);
    } else if (const auto* integer = std::get_if<std::int64_t ModelConfig::*>(&key.member)) {
      text = std::to_string(config.*(*integer));
    } else if (const auto* real = std::get_if<double ModelConfig::*>(&key.member)) {
      text = number_text(config.*(*real));
    } else {
      text = config.*std::get<bool ModelConfig::*>(key.member) ? "true" : "false";
    }
    list.emplace_back(key.name, std::move(text));
  }
  return list;
}

}  // namespace ufp4
