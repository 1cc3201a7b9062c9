#include "text_codec.h"

#include <fmt/core.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "io/json.h"
#include "python_child.h"
#include "ufp4/error.h"

namespace ufp4::app {
namespace {

using Json = nlohmann::json;

constexpr std::int32_t kBytes = 256;

// Bytes of the character that begins with `lead`; 1 for what begins none.
std::size_t length_of(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  if (byte >= 0xF0 && byte < 0xF8) return 4;
  if (byte >= 0xE0) return byte < 0xF0 ? 3 : 1;
  return byte >= 0xC0 ? 2 : 1;
}

class ByteCodec final : public TextCodec {
 public:
  std::int32_t separator() const override { return kBytes; }

  std::vector<std::int32_t> encode(std::string_view text) override {
    std::vector<std::int32_t> tokens;
    tokens.reserve(text.size());
    for (const char c : text) tokens.push_back(static_cast<unsigned char>(c));
    return tokens;
  }

  std::string next(std::int32_t token) override {
    if (token >= kBytes) return {};
    kept_ += static_cast<char>(token);
    const bool continues = (static_cast<unsigned char>(token) & 0xC0) == 0x80;
    // A character that is broken off by another one is given out as it is.
    if (kept_.size() < length_of(kept_.front()) && (kept_.size() == 1 || continues)) return {};
    return std::exchange(kept_, {});
  }

 private:
  std::string kept_;
};

// A line of JSON there, a line back.
class PythonCodec final : public TextCodec {
 public:
  PythonCodec(const std::filesystem::path& tokenizer, const std::optional<std::string>& python)
      : tokenizer_(tokenizer.string()), child_(python, {"codec", "--", tokenizer_}) {
    separator_ = static_cast<std::int32_t>(io::whole_number(ask(Json{{"hello", 1}}), "separator", tokenizer_));
  }

  std::int32_t separator() const override { return separator_; }

  std::vector<std::int32_t> encode(std::string_view text) override {
    const Json answer = ask(Json{{"encode", text}});
    std::vector<std::int32_t> tokens;
    for (const Json& token : answer.at("ids")) tokens.push_back(token.get<std::int32_t>());
    return tokens;
  }

  std::string next(std::int32_t token) override { return ask(Json{{"next", token}}).at("text").get<std::string>(); }

 private:
  Json ask(const Json& question) {
    Json answer = io::parse_json(child_.ask(line_of(question)), tokenizer_);
    if (const auto error = answer.find("error"); error != answer.end()) throw InputError(error->get<std::string>());
    return answer;
  }

  static std::string line_of(const Json& question) try {
    return question.dump(-1, ' ', true);
  } catch (const Json::type_error&) {
    throw InputError("the text is not UTF-8, which a tokenizer needs");
  }

  std::string tokenizer_;
  PythonChild child_;
  std::int32_t separator_ = 0;
};

}  // namespace

std::unique_ptr<TextCodec> make_codec(const TextModel& model, const std::optional<std::string>& python) {
  if (const auto tokenizer = model.tokenizer()) return std::make_unique<PythonCodec>(*tokenizer, python);
  if (model.reads_bytes()) return std::make_unique<ByteCodec>();
  throw InputError(fmt::format(
      "'{}' has no tokenizer.json, and was not trained on text as bytes: put the tokenizer of its data there",
      model.checkpoint().string()));
}

}  // namespace ufp4::app
