#include "train/carried_tokenizer.h"

#include "io/file.h"
#include "io/tokenizer_file.h"
#include "ufp4/error.h"

namespace ufp4 {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMaxTokenizerBytes = std::uint64_t{1} << 28;

}  // namespace

void check_tokenizer(const std::optional<fs::path>& model, const std::string& name, const Dataset& data,
                     const std::string& data_name) {
  if (!model) return;
  const DataTokenizer found = data.tokenizer();
  if (found.hash != 0 && found.hash != io::tokenizer_hash(*model)) {
    throw InputError(found.file + ": its tokens are of another tokenizer than '" + model->string() + "' of '" + name +
                     "'");
  }
  if (data.vocab_size() == kByteVocabulary && found.hash == 0) {
    throw InputError("'" + data_name + "' is read as bytes, but '" + name + "' has the tokenizer '" + model->string() +
                     "': make token shards with 'ufp4 tokenize --tokenizer'");
  }
}

std::optional<fs::path> find_tokenizer(const Dataset& data, const std::optional<fs::path>& init) {
  const DataTokenizer found = data.tokenizer();
  if (found.hash == 0) return data.vocab_size() == kByteVocabulary ? std::nullopt : init;
  const fs::path beside = fs::path(found.file).parent_path() / io::kTokenizerName;
  if (fs::is_regular_file(beside) && io::tokenizer_hash(beside) == found.hash) return beside;
  return init;  // it has this hash: check_tokenizer
}

void carry_tokenizer(const fs::path& tokenizer, const fs::path& folder) {
  for (const char* name : {io::kTokenizerName, io::kTokenizerConfigName}) {
    const fs::path source = tokenizer.parent_path() / name;
    if (!fs::is_regular_file(source)) continue;
    io::atomic_write_file(folder / name, io::read_text_file(source, kMaxTokenizerBytes), io::Links::kRefuse);
  }
}

}  // namespace ufp4
