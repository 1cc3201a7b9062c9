#include "train/checkpoint_text.h"

#include <gtest/gtest.h>

#include <vector>

#include "message_of.h"
#include "ufp4/error.h"

namespace ufp4 {
namespace {

const RunState kState{12, 3400, 2, 1, R"({"epoch":0,"sequence":7})", "00ff"};
const Manifest kManifest{{"config.toml", {12, "ab"}}, {"state.json", {3, "cd"}}};

TEST(CheckpointText, StateComesBack) {
  const RunState state = parse_state(state_text(kState), "f");
  EXPECT_EQ(state.step, 12);
  EXPECT_EQ(state.tokens, 3400);
  EXPECT_EQ(state.skipped, 2);
  EXPECT_EQ(state.skipped_in_row, 1);
  EXPECT_EQ(state.data, kState.data);
  EXPECT_EQ(state.data_fingerprint, "00ff");
}

TEST(CheckpointText, ManifestComesBack) { EXPECT_EQ(parse_manifest(manifest_text(kManifest), "f"), kManifest); }

std::string with(std::string text, std::string_view old, std::string_view replacement) {
  const std::size_t at = text.find(old);
  EXPECT_NE(at, std::string::npos) << old;
  return text.replace(at, old.size(), replacement);
}

TEST(CheckpointText, AWrongStateIsRefusedByKey) {
  const auto refusal = [](std::string_view old, std::string_view replacement) {
    return message_of<InputError>([&] { parse_state(with(state_text(kState), old, replacement), "f"); });
  };
  EXPECT_EQ(refusal("12", "\"12\""), R"('f': the key 'step' is '"12"', expected a whole number from 0 to 2^63 - 1)");
  EXPECT_EQ(refusal("3400", "1e300"), "'f': the key 'tokens' is '1e+300', expected a whole number from 0 to 2^63 - 1");
  EXPECT_EQ(refusal("\"00ff\"", "null"), "'f': the key 'data_fingerprint' is 'null', expected a string");
  EXPECT_EQ(refusal("\"data\"", "\"date\""), "'f': the key 'data' is missing");
  // A long value is not quoted in full.
  EXPECT_LT(refusal("3400", "\"" + std::string(100'000, 'x') + "\"").size(), 200U);
}

TEST(CheckpointText, AWrongManifestIsRefused) {
  const std::vector<std::pair<std::string, std::string>> changes{
      {"\"format\": 1", "\"format\": 2"},           {"\"files\": {", "\"files\": {\"a\": 1, "},
      {"\"format\"", "\"more\": 0, \"format\""},    {"\"bytes\": 12", "\"bytes\": 1.5"},
      {"\"bytes\": 12", "\"bytes\": 12, \"b\": 0"}, {"\"ab\"", "7"}};
  for (const auto& [old, replacement] : changes) {
    EXPECT_THROW(parse_manifest(with(manifest_text(kManifest), old, replacement), "f"), InputError) << replacement;
  }
}

}  // namespace
}  // namespace ufp4
