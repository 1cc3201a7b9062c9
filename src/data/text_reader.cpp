#include "data/text_reader.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "io/file.h"
#include "numerics/near_name.h"
#include "ufp4/error.h"

namespace ufp4::data {
namespace {

// Collects the top-level "text" of one line without building the rest: a line may hold megabytes of other fields.
class TextField : public nlohmann::json_sax<nlohmann::json> {
 public:
  bool null() override { return value("null"); }
  bool boolean(bool) override { return value("a boolean"); }
  bool number_integer(number_integer_t) override { return value("a number"); }
  bool number_unsigned(number_unsigned_t) override { return value("a number"); }
  bool number_float(number_float_t, const string_t&) override { return value("a number"); }
  bool binary(binary_t&) override { return value("binary data"); }
  bool string(string_t& s) override {
    if (depth_ == 1 && key_is_text_) {
      if (text_) return refuse("two \"text\" fields");
      text_ = std::move(s);
      return true;
    }
    return value("a string");
  }
  bool start_object(std::size_t) override { return value("an object") && ++depth_; }
  bool end_object() override { return depth_-- > 0; }
  bool start_array(std::size_t) override { return value("an array") && ++depth_; }
  bool end_array() override { return depth_-- > 0; }
  bool key(string_t& k) override {
    if (depth_ == 1) {
      key_is_text_ = k == "text";
      if (keys_.size() < kKeysNamed) keys_.push_back(k);
    }
    return true;
  }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::json::exception& e) override {
    // "[json.exception...] parse error at line 1, column 9: REASON; last read: ...": the reason alone; what was read
    // last may be long or no text.
    std::string reason = e.what();
    if (const auto column = reason.find("column"); column != std::string::npos) {
      reason.erase(0, std::min(reason.size(), reason.find(": ", column) + 2));
    }
    reason.erase(std::min(reason.size(), reason.find("; last read")));
    return refuse("no valid JSON at byte " + std::to_string(position) + " of the line: " + reason);
  }

  // The text; throws what is wrong after "FILE:LINE: ".
  std::string take(const std::string& where) {
    if (!wrong_.empty()) throw InputError(where + wrong_);
    if (!text_) {
      const std::vector<std::string_view> names(keys_.begin(), keys_.end());
      throw InputError(where + "the object has no \"text\" field" + (names.empty() ? "" : name_hint("text", names)));
    }
    return std::move(*text_);
  }

 private:
  static constexpr std::size_t kKeysNamed = 16;

  bool refuse(std::string why) {
    wrong_ = std::move(why);
    return false;
  }
  bool value(const char* kind) {
    if (depth_ == 0 && kind != std::string_view("an object")) {
      return refuse(std::string("expected an object with a \"text\" field, found ") + kind);
    }
    if (depth_ == 1 && key_is_text_) return refuse(std::string("the \"text\" field is ") + kind + ", not a string");
    return true;
  }

  int depth_ = 0;
  bool key_is_text_ = false;
  std::optional<std::string> text_;
  std::vector<std::string> keys_;
  std::string wrong_;
};

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
    TextField field;
    nlohmann::json::sax_parse(bytes.begin(), bytes.end(), &field);
    const std::string text = field.take(where());
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

void refuse_empty(const io::MappedFile& file) {
  if (file.bytes().empty()) throw InputError(file.path().string() + ": the file is empty");
}

}  // namespace

void read_plain_text(const std::filesystem::path& path, const DocumentSink& sink) {
  const io::MappedFile file(path);
  refuse_empty(file);
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
  refuse_empty(file);
  JsonLines lines(path.string(), sink, max_line_bytes);
  lines.add(file.text());
  lines.finish();
}

void read_jsonl_zst(const std::filesystem::path& path, const DocumentSink& sink, std::size_t max_line_bytes) {
  const io::MappedFile file(path);
  refuse_empty(file);
  JsonLines lines(path.string(), sink, max_line_bytes);
  decompress_zstd(path.string(), file.text(), [&lines](std::string_view piece) { lines.add(piece); });
  lines.finish();
}

}  // namespace ufp4::data
