#include "data/text_reader.h"

#include <algorithm>
#include <array>

#include "data/dataset.h"
#include "data/jsonl_line.h"
#include "io/file.h"
#include "io/foreign_file.h"
#include "numerics/near_name.h"
#include "ufp4/error.h"

namespace ufp4::data {
namespace {

// Cuts a stream of pieces into lines and hands on their texts.
class JsonLines {
 public:
  JsonLines(std::string name, const DocumentSink& sink, std::size_t max_line_bytes)
      : name_(std::move(name)), sink_(sink), max_line_bytes_(max_line_bytes) {}

  void add(std::string_view piece) {
    while (!piece.empty()) {
      const std::size_t end = piece.find('\n');
      const std::string_view part = piece.substr(0, end);
      if (kept_.size() + part.size() > max_line_bytes_) {
        throw InputError(where() + "the line is longer than " + std::to_string(max_line_bytes_) + " bytes");
      }
      if (end == std::string_view::npos) {
        kept_ += part;
        return;
      }
      if (kept_.empty()) {
        line(part);
      } else {
        kept_ += part;
        line(kept_);
        kept_.clear();
      }
      ++line_;
      piece.remove_prefix(end + 1);
    }
  }

  void finish() {
    line(kept_);  // the last line need not end in a newline
    if (texts_ == 0)
      throw InputError(name_ + ": no text in the whole file (every line is blank or its \"text\" empty)");
  }

 private:
  std::string where() const { return name_ + ":" + std::to_string(line_) + ": "; }

  void line(std::string_view bytes) {
    if (bytes.find_first_not_of(" \t\r") == std::string_view::npos) return;
    const std::string text = read_text_field(bytes, where());
    if (text.empty()) return;
    ++texts_;
    sink_(text);
  }

  std::string name_;
  const DocumentSink& sink_;
  std::size_t max_line_bytes_;
  std::string kept_;  // the begun line
  std::int64_t line_ = 1;
  std::int64_t texts_ = 0;
};

void refuse_no_text(const io::MappedFile& file) {
  if (file.bytes().empty()) throw InputError(file.path().string() + ": the file is empty");
  if (const std::string_view what = io::foreign_content(file.text()); !what.empty()) {
    throw InputError(file.path().string() + ": it is " + std::string(what));
  }
}

}  // namespace

void read_plain_text(const std::filesystem::path& path, const DocumentSink& sink) {
  const io::MappedFile file(path);
  refuse_no_text(file);
  const std::string_view text = file.text();
  if (const std::size_t nul = text.find('\0'); nul != std::string_view::npos) {
    throw InputError(path.string() + ": a NUL byte at offset " + std::to_string(nul) +
                     ": a binary file; expected UTF-8 text");
  }
  if (const std::size_t bad = io::find_invalid_utf8(text); bad != std::string_view::npos) {
    const auto line = 1 + std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(bad), '\n');
    throw InputError(path.string() + ":" + std::to_string(line) + ": not UTF-8 at offset " + std::to_string(bad) +
                     " of the file; expected UTF-8 text");
  }
  sink(text);
}

void read_jsonl(const std::filesystem::path& path, const DocumentSink& sink, std::size_t max_line_bytes) {
  const io::MappedFile file(path);
  refuse_no_text(file);
  JsonLines lines(path.string(), sink, max_line_bytes);
  lines.add(file.text());
  lines.finish();
}

void read_jsonl_zst(const std::filesystem::path& path, const DocumentSink& sink, std::size_t max_line_bytes) {
  const io::MappedFile file(path);
  refuse_no_text(file);
  JsonLines lines(path.string(), sink, max_line_bytes);
  decompress_zstd(path.string(), file.text(), [&lines](std::string_view piece) { lines.add(piece); });
  lines.finish();
}

namespace {

struct TextKind {
  std::string_view ending;
  void (*read)(const std::string& file, const DocumentSink& sink);
};

constexpr std::array<TextKind, 3> kTextKinds = {{
    {".txt", [](const std::string& file, const DocumentSink& sink) { read_plain_text(file, sink); }},
    {".jsonl", [](const std::string& file, const DocumentSink& sink) { read_jsonl(file, sink); }},
    {".jsonl.zst", [](const std::string& file, const DocumentSink& sink) { read_jsonl_zst(file, sink); }},
}};

[[noreturn]] void refuse_kind(const std::string& file) {
  const std::filesystem::path path(file);
  std::string ending = path.extension().string();
  if (ending == ".zst") ending = path.stem().extension().string() + ending;
  constexpr std::array<std::string_view, 4> kEndings = {".txt", ".jsonl", ".jsonl.zst", kShardEnding};
  const std::string_view near = near_name(ending, kEndings);
  throw InputError(
      file + ": " + (ending.empty() ? "a name without an ending" : "unknown kind of file '" + ending + "'") +
      (near.empty() ? "" : " (did you mean '" + std::string(near) + "'?)") +
      "; expected .txt, .jsonl, .jsonl.zst, .bin (a token shard) or the word '" + std::string(kBuiltinLanguage) + "'");
}

const TextKind* find_kind(const std::string& file) {
  const auto* const kind = std::find_if(kTextKinds.begin(), kTextKinds.end(),
                                        [&file](const TextKind& k) { return file.ends_with(k.ending); });
  return kind == kTextKinds.end() ? nullptr : kind;
}

}  // namespace

void check_text_kind(const std::string& file) {
  if (find_kind(file) != nullptr) return;
  // A folder or a missing file is that first, whatever it is called.
  if (!std::filesystem::is_regular_file(file)) const io::MappedFile refused(file);
  refuse_kind(file);
}

void read_text(const std::string& file, const DocumentSink& sink) {
  check_text_kind(file);
  find_kind(file)->read(file, sink);
}

}  // namespace ufp4::data
