#include "config/model_config.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "message_of.h"
#include "ufp4/error.h"

namespace ufp4 {
namespace {

TEST(ModelConfig, NamedSizesHaveTheParametersThatTheyName) {
  const auto count = [](const char* name) {
    return static_cast<double>(non_embedding_parameter_count(load_model_config(name))) / 1e6;
  };
  EXPECT_LT(count("tiny"), 2);
  EXPECT_NEAR(count("10m"), 10.6, 0.1);
  EXPECT_NEAR(count("25m"), 25.7, 0.1);
  EXPECT_NEAR(count("60m"), 27.3, 0.1);
  EXPECT_NEAR(count("350m"), 308, 1);
  EXPECT_NEAR(count("1.5b"), 1309, 2);
  ModelConfig config = load_model_config("60m");
  config.vocab_size = 32768;
  EXPECT_NEAR(static_cast<double>(parameter_count(config)) / 1e6, 60.8, 0.1);
  EXPECT_EQ(model_names().front(), "tiny");
  EXPECT_EQ(model_names().back(), "1.5b");
}

TEST(ModelConfig, EntriesReadBackToTheSame) {
  ModelConfig config = load_model_config("10m");
  set(config, "kv_heads", "2");
  set(config, "qk_norm", "true");
  set(config, "norm_epsilon", "1e-6");
  set(config, "head_size", "80");
  set(config, "qk_norm_width", "all");
  set(config, "norm_place", "after");
  set(config, "qkv_bias", "true");
  set(config, "rope_scaling", "llama3");
  set(config, "rope_factor", "8");
  set(config, "rope_original_context", "8192");
  ModelConfig copy;
  for (const auto& [key, value] : entries(config)) set(copy, key, value);
  EXPECT_EQ(entries(copy), entries(config));
}

TEST(ModelConfig, KeysThatGoTogetherAreChecked) {
  const auto refused = [](std::initializer_list<std::pair<const char*, const char*>> changes) {
    ModelConfig config = load_model_config("tiny");
    for (const auto& [key, value] : changes) set(config, key, value);
    return message_of<InputError>([&] { validate(config); });
  };
  EXPECT_NE(refused({{"head_size", "33"}}).find("'head_size' is 33, expected an even number"), std::string::npos);
  EXPECT_NE(refused({{"rope_scaling", "llama3"}}).find("'rope_original_context' is 0"), std::string::npos);
  EXPECT_NE(refused({{"rope_scaling", "llama3"}, {"rope_original_context", "64"}, {"rope_low_factor", "4"}})
                .find("'rope_low_factor' is 4, expected less than rope_high_factor, 4"),
            std::string::npos);
  EXPECT_NE(refused({{"rope_scaling", "yarn"}, {"rope_original_context", "64"}, {"rope_beta_slow", "32"}})
                .find("'rope_beta_slow' is 32, expected less than rope_beta_fast, 32"),
            std::string::npos);
  ModelConfig wide = load_model_config("tiny");
  set(wide, "heads", "3");  // no divisor of d_model
  EXPECT_THROW(validate(wide), InputError);
  set(wide, "head_size", "64");
  validate(wide);
  EXPECT_EQ(wide.attention_size(), 192);
}

TEST(ModelConfig, ErrorsNameFileKeyAndNearKey) {
  EXPECT_EQ(message_of<InputError>([] { load_model_config("10n"); }), "unknown model '10n' (did you mean '10m'?)");
  EXPECT_NE(message_of<InputError>([] { load_model_config("no/such.toml"); }).find("no/such.toml"), std::string::npos);
  EXPECT_EQ(message_of<InputError>([] { parse_model_config("d_model = 8\nlayer = 3", "m.toml"); }),
            "m.toml:2: unknown model key 'layer' (did you mean 'layers'?)");
  EXPECT_NE(message_of<InputError>([] { parse_model_config("d_model = = 8", "m.toml"); }).find("m.toml:1:"),
            std::string::npos);
  EXPECT_NE(message_of<InputError>([] {
              parse_model_config("layers = -1", "m.toml");
            }).find("'layers' is -1, expected 1 to 1024"),
            std::string::npos);
  EXPECT_NE(message_of<InputError>([] { parse_model_config("layers = [1]", "m.toml"); }).find("expected one value"),
            std::string::npos);
  EXPECT_NE(
      message_of<InputError>([] { parse_model_config("layers = 1.5", "m.toml"); }).find("expected a whole number"),
      std::string::npos);
  EXPECT_NE(message_of<InputError>([] { parse_model_config("qk_norm = 1", "m.toml"); }).find("expected true or false"),
            std::string::npos);
}

TEST(ModelConfig, SizesThatDoNotFitTogetherAreRefused) {
  const auto with = [](const char* key, const char* value) {
    return message_of<InputError>([&] {
      ModelConfig config = load_model_config("tiny");
      set(config, key, value);
      validate(config);
    });
  };
  EXPECT_NE(with("heads", "3").find("'heads' is 3, expected a divisor of d_model 128"), std::string::npos);
  EXPECT_NE(with("heads", "128").find("even head size"), std::string::npos);
  EXPECT_NE(with("kv_heads", "3").find("a divisor of heads"), std::string::npos);
  EXPECT_NE(with("d_model", "99999999999").find("expected 2 to 131072"), std::string::npos);
  EXPECT_NE(with("rope_theta", "nan").find("rope_theta"), std::string::npos);
  EXPECT_NE(message_of<InputError>([] { validate(ModelConfig{}); }).find("'d_model' is 0"), std::string::npos);
  EXPECT_NE(message_of<InputError>([] { parameter_count(load_model_config("tiny")); }).find("vocab_size"),
            std::string::npos);
}

TEST(ModelConfig, AFileWithoutANameIsCalledAfterItself) {
  const std::filesystem::path path = std::filesystem::path(testing::TempDir()) / "mine.toml";
  std::ofstream(path) << "d_model = 32\nlayers = 1\nheads = 2\nffn = 48\ncontext = 16\n";
  EXPECT_EQ(load_model_config(path.string()).name, "mine");
}

TEST(ModelConfig, ThePackedStashTakesLess) {
  ModelConfig config = load_model_config("10m");
  config.vocab_size = 320;
  const std::int64_t layers = config.layers;
  EXPECT_LT(activation_bytes(config, 4096, 0.75, layers), activation_bytes(config, 4096, 2, layers));
  const double none = activation_bytes(config, 4096, 0, layers);
  EXPECT_LT(none, activation_bytes(config, 4096, 0.75, layers));
  EXPECT_EQ(fc1_result_bytes(config, 4096), 4096.0 * 2 * 2 * static_cast<double>(config.ffn));
  EXPECT_EQ(none - activation_bytes(config, 4096, 0, layers - 1), fc1_result_bytes(config, 4096));
}

}  // namespace
}  // namespace ufp4
