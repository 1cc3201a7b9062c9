// The documents of one file, one after the other.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "data/text_reader.h"

namespace ufp4::data {

// The tokens of a document, its separator before them.
using TokenSink = std::function<void(std::vector<std::int32_t> tokens)>;

// Text goes to `text`, and what a token shard holds to `tokens`. Throws InputError for what is wrong with the file.
void read_documents(const std::string& file, const DocumentSink& text, const TokenSink& tokens);

}  // namespace ufp4::data
