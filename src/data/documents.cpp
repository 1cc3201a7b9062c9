#include "data/documents.h"

#include "data/token_store.h"

namespace ufp4::data {

void read_documents(const std::string& file, const TokenFileSettings& settings, const DocumentSink& text,
                    const TokenSink& tokens, const std::function<void(std::uint64_t)>& check) {
  if (!file.ends_with(kShardEnding)) return read_text(file, text);
  const std::vector<std::string> files{file};
  const TokenStore store(files, 0, settings);
  check(store.tokenizer());
  for (const Piece& piece : store.documents()) {
    std::vector<std::int32_t> document(static_cast<std::size_t>(piece.length + 1));
    document.front() = store.separator();
    store.copy(piece, 0, std::span(document).subspan(1));
    tokens(std::move(document));
  }
}

}  // namespace ufp4::data
