#include "io/json.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <nlohmann/json.hpp>
#include <string>

#include "io/temporary_folder.h"
#include "message_of.h"
#include "ufp4/error.h"

namespace ufp4::io {
namespace {

std::string refusal(std::string_view text, const JsonLimits& limits = {}) {
  std::string message = message_of<InputError>([&] { parse_json(text, "f", limits); });
  EXPECT_TRUE(message.starts_with("'f': ")) << message;
  return message.erase(0, std::min<std::size_t>(message.size(), 5));
}

std::string nested(std::size_t levels, const char* open, const char* close) {
  std::string text;
  for (std::size_t i = 0; i < levels; ++i) text += open;
  text += "1";
  for (std::size_t i = 0; i < levels; ++i) text += close;
  return text;
}

TEST(Json, ReadsWithinTheLimits) {
  EXPECT_EQ(parse_json(R"({"a": [1, 2.5, "x"]})", "f").dump(), R"({"a":[1,2.5,"x"]})");
  EXPECT_EQ(parse_json(nested(64, "[", "]"), "f").dump(), nested(64, "[", "]"));
  EXPECT_EQ(parse_json("12345", "f", {.bytes = 5}), 12345);
}

TEST(Json, RefusesWhatIsTooDeepOrTooLarge) {
  for (const std::size_t levels : {std::size_t{65}, std::size_t{200'000}}) {
    EXPECT_EQ(refusal(nested(levels, "[", "]"), {.bytes = 1 << 24}), "objects and lists nested more than 64 deep");
    EXPECT_EQ(refusal(nested(levels, "{\"a\":", "}"), {.bytes = 1 << 24}),
              "objects and lists nested more than 64 deep");
  }
  EXPECT_EQ(refusal("123456", {.bytes = 5}), "it has 6 bytes, more than the 5 that such a file may have");
}

TEST(Json, SaysInALineWhatIsNoJson) {
  EXPECT_EQ(refusal(""),
            "not valid JSON at byte 1: syntax error while parsing value - unexpected end of input; "
            "expected '[', '{', or a literal");
  EXPECT_EQ(refusal("{} {}"),
            "not valid JSON at byte 4: syntax error while parsing value - unexpected '{'; expected end of input");
  EXPECT_EQ(refusal(std::string_view("{}\0{}", 5)), "not valid JSON: a zero byte at byte 3");
  EXPECT_EQ(refusal("{\"a\": 1e999}"), "not valid JSON: number overflow parsing '1e999'");
  EXPECT_LT(refusal("[" + std::string(10'000, '9') + "]").size(), 200U);
  EXPECT_LT(refusal("{\"" + std::string(10'000, 'x') + "\" 1}").size(), 200U);
  EXPECT_LT(refusal("\"\xFF" + std::string(10'000, 'x') + "\"").size(), 200U);
}

TEST(Json, RefusesWhatIsNoRegularFile) {
  const TemporaryFolder folder;
  const std::string pipe = folder / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  for (const std::string& path : {pipe, std::string("/dev/zero")}) {
    EXPECT_EQ(message_of<InputError>([&] { read_json(path); }), "cannot read '" + path + "': it is not a regular file");
  }
}

TEST(Json, NamesTheKeyWhoseValueIsWrong) {
  const nlohmann::json object =
      parse_json(R"({"n": 7, "half": 1.5, "big": 9223372036854775808, "minus": -1, "flag": true, "text": "x"})", "f");
  EXPECT_EQ(whole_number(object, "n", "f"), 7);
  EXPECT_EQ(text_value(object, "text", "f"), "x");
  for (const char* key : {"half", "big", "minus", "flag", "text"}) {
    const std::string message = message_of<InputError>([&] { whole_number(object, key, "f"); });
    EXPECT_NE(message.find(std::string("the key '") + key + "' is "), std::string::npos) << message;
  }
  EXPECT_EQ(message_of<InputError>([&] { whole_number(object, "m", "f"); }), "'f': the key 'm' is missing");
  EXPECT_EQ(message_of<InputError>([&] { text_value(object, "n", "f"); }),
            "'f': the key 'n' is '7', expected a string");
  EXPECT_EQ(message_of<InputError>([&] { whole_number(nlohmann::json::array(), "n", "f"); }),
            "'f': expected an object, found array");
}

}  // namespace
}  // namespace ufp4::io
