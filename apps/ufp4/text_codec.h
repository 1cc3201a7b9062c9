// Text as the tokens of a model, and back.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "train/text_model.h"

namespace ufp4::app {

class TextCodec {
 public:
  virtual ~TextCodec() = default;

  // The token that ends a document, and stands before the first one of a text.
  virtual std::int32_t separator() const = 0;
  // Of valid UTF-8, without special tokens around it.
  virtual std::vector<std::int32_t> encode(std::string_view text) = 0;
  // What the text grows by with the next token: bytes that complete no character wait for the rest of it.
  virtual std::string next(std::int32_t token) = 0;
};

// For the tokens that the model was trained on: bytes, or those of its tokenizer.json, which the Python package reads.
// Throws InputError for a model of which neither is known.
std::unique_ptr<TextCodec> make_codec(const TextModel& model, const std::optional<std::string>& python);

}  // namespace ufp4::app
