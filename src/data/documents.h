// The documents of one file, one after the other.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "data/text_reader.h"
#include "data/token_file.h"

namespace ufp4::data {

// The tokens of a document, its separator before them.
using TokenSink = std::function<void(std::vector<std::int32_t> tokens)>;

// Text goes to `text`, and what a file of tokens holds to `tokens`; `check` is given the hash of its tokenizer before
// (ShardHeader::tokenizer). Throws InputError for what is wrong with the file.
void read_documents(const std::string& file, const TokenFileSettings& settings, const DocumentSink& text,
                    const TokenSink& tokens, const std::function<void(std::uint64_t)>& check);

}  // namespace ufp4::data
