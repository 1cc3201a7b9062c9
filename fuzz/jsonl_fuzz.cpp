// libFuzzer target of the readers of text: what they give out is UTF-8, and of a line that a full JSON parser takes it
// is the text that the parser finds. The first byte chooses between one line, a file, and a compressed one.
#include <nlohmann/json.hpp>

#include "data/jsonl_line.h"
#include "data/text_reader.h"
#include "io/file.h"
#include "target.h"

namespace ufp4::fuzz {
namespace {

constexpr std::size_t kMaxLine = std::size_t{1} << 16;
constexpr std::size_t kMaxBytes = std::size_t{1} << 24;

void read_line(std::string_view line) {
  const nlohmann::json expected = nlohmann::json::parse(line, nullptr, false);
  const bool has_text = expected.is_object() && expected.contains("text") && expected["text"].is_string() &&
                        line.find('\0') == std::string_view::npos;
  std::string found;
  try {
    found = data::read_text_field(line, "fuzz:1: ");
  } catch (const InputError& error) {
    // The parser takes the last of two.
    check(!has_text || std::string_view(error.what()).find("\"text\" field") != std::string_view::npos);
    throw;
  }
  check(io::find_invalid_utf8(found) == std::string_view::npos);
  check(!has_text || found == expected["text"].get_ref<const std::string&>());
}

void read_file(Bytes bytes, bool compressed) {
  static const MemoryFile plain(".jsonl");
  static const MemoryFile packed(".jsonl.zst");
  std::size_t size = 0;
  const data::DocumentSink sink = [&](std::string_view text) {
    check(io::find_invalid_utf8(text) == std::string_view::npos);
    size += text.size();
    if (size > kMaxBytes) throw InputError("enough");  // a few bytes may stand for gigabytes
  };
  if (compressed) {
    data::read_jsonl_zst(packed.with(bytes), sink, kMaxLine);
  } else {
    data::read_jsonl(plain.with(bytes), sink, kMaxLine);
    check(size <= bytes.size());
  }
}

}  // namespace
}  // namespace ufp4::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace ufp4::fuzz;
  if (size < 1) return 0;
  const Bytes bytes = Bytes(data, size).subspan(1);
  return read_or_refuse([&] {
    switch (data[0] % 3) {
      case 0: return read_line(text_of(bytes));
      case 1: return read_file(bytes, false);
      default: return read_file(bytes, true);
    }
  });
}
