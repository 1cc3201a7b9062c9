// libFuzzer target of the reader of token shards: any bytes are documents of tokens below the vocabulary, each of them
// readable, or are refused with an InputError.
#include <vector>

#include "data/token_store.h"
#include "target.h"

namespace ufp4::fuzz {
namespace {

void read_shard(Bytes bytes) {
  static const MemoryFile file(".bin");
  const std::vector<std::string> files{file.with(bytes)};
  const data::TokenStore store(files, 0);
  const data::TokenRow row(store, store.documents());
  check(!store.documents().empty() && row.size() >= 2);
  check(row.size() <= static_cast<std::int64_t>(bytes.size()));
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(row.size()));
  row.copy(0, tokens);
  for (const std::int32_t token : tokens) check(token >= 0 && token < store.vocab_size());
  check(tokens.back() == store.separator());
}

}  // namespace
}  // namespace ufp4::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return ufp4::fuzz::read_or_refuse([&] { ufp4::fuzz::read_shard({data, size}); });
}
