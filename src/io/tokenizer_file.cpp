#include "io/tokenizer_file.h"

#include <string>

#include "io/checksum.h"

namespace ufp4::io {

namespace fs = std::filesystem;

std::optional<fs::path> tokenizer_of(const fs::path& checkpoint) {
  const fs::path own = fs::absolute(checkpoint).lexically_normal();
  if (fs::is_regular_file(own / kTokenizerName)) return own / kTokenizerName;
  // A path that ends in a slash has an empty last part.
  const fs::path folder = own.has_filename() ? own : own.parent_path();
  const fs::path run = folder.parent_path().parent_path();
  if (folder.parent_path().filename() != "checkpoints" || !fs::is_regular_file(run / kTokenizerName)) {
    return std::nullopt;
  }
  return run / kTokenizerName;
}

std::uint64_t tokenizer_hash(const fs::path& file) {
  return std::stoull(checksum_of_file(file).substr(0, 16), nullptr, 16);
}

}  // namespace ufp4::io
