// The tokenizer that belongs to the tokens of a run: found with the data, kept in the folder, compared with that of a
// model.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "data/dataset.h"

namespace ufp4 {

// Throws InputError if the tokens are known to be of another tokenizer than the model's, or are bytes and no tokens of
// it. `model` is the model's tokenizer.json and `name` the model in messages.
void check_tokenizer(const std::optional<std::filesystem::path>& model, const std::string& name, const Dataset& data,
                     const std::string& data_name);

// The tokenizer.json for a run on these data: beside the file that tells its hash, or that of `init`. Nothing if there
// is none with this hash.
std::optional<std::filesystem::path> find_tokenizer(const Dataset& data,
                                                    const std::optional<std::filesystem::path>& init);

// Copies it, and the tokenizer_config.json beside it, into the folder of a run.
void carry_tokenizer(const std::filesystem::path& tokenizer, const std::filesystem::path& folder);

}  // namespace ufp4
