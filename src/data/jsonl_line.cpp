#include "data/jsonl_line.h"

#include <cstddef>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "io/json.h"
#include "io/tensor_name.h"
#include "numerics/near_name.h"
#include "ufp4/error.h"

namespace ufp4::data {
namespace {

// Collects the top-level "text" without building the rest: a line may hold megabytes of other fields.
class TextField : public nlohmann::json_sax<nlohmann::json> {
 public:
  // Whether a string that begins now is the text.
  bool expects_text() const { return depth_ == 1 && key_is_text_; }

  bool null() override { return value("null"); }
  bool boolean(bool) override { return value("a boolean"); }
  bool number_integer(number_integer_t) override { return value("a number"); }
  bool number_unsigned(number_unsigned_t) override { return value("a number"); }
  bool number_float(number_float_t, const string_t&) override { return value("a number"); }
  bool binary(binary_t&) override { return value("binary data"); }
  bool string(string_t& s) override {
    if (!expects_text()) return value("a string");
    if (text_) return refuse("two \"text\" fields");
    text_ = std::move(s);
    key_is_text_ = false;
    return true;
  }
  bool start_object(std::size_t) override { return value("an object") && ++depth_; }
  bool end_object() override { return depth_-- > 0; }
  bool start_array(std::size_t) override { return value("an array") && ++depth_; }
  bool end_array() override { return depth_-- > 0; }
  bool key(string_t& k) override {
    if (depth_ == 1) {
      key_is_text_ = k == "text";
      if (keys_.size() < kKeysNamed && k.size() < kLongestNamed) keys_.push_back(k);
    }
    return true;
  }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::json::exception& e) override {
    position_ = position;
    return refuse(io::json_reason(e.what()));
  }

  // The text; throws what is wrong after "FILE:LINE: ". `left_out`: bytes before the error that the parser did not see.
  std::string take(const std::string& where, std::size_t left_out) {
    if (position_) {
      throw InputError(where + "no valid JSON at byte " + std::to_string(*position_ + left_out) +
                       " of the line: " + wrong_);
    }
    if (!wrong_.empty()) throw InputError(where + wrong_);
    if (!text_) {
      const std::vector<std::string_view> names(keys_.begin(), keys_.end());
      const std::string_view near = near_name("text", names);
      throw InputError(where + "the object has no \"text\" field" +
                       (near.empty() ? "" : " (did you mean " + io::show_name(near) + "?)"));
    }
    return std::move(*text_);
  }

 private:
  static constexpr std::size_t kKeysNamed = 16;
  static constexpr std::size_t kLongestNamed = 64;

  bool refuse(std::string why) {
    wrong_ = std::move(why);
    return false;
  }
  bool value(const char* kind) {
    if (depth_ == 0 && kind != std::string_view("an object")) {
      return refuse(std::string("expected an object with a \"text\" field, found ") + kind);
    }
    if (expects_text()) return refuse(std::string("the \"text\" field is ") + kind + ", not a string");
    return true;
  }

  std::int64_t depth_ = 0;
  bool key_is_text_ = false;
  std::optional<std::string> text_;
  std::vector<std::string> keys_;
  std::optional<std::size_t> position_;  // of an error in the JSON itself
  std::string wrong_;
};

// The line as the parser sees it. The parser refuses JSON whose values it cannot represent: a number beyond a double,
// half of a surrogate pair in a string. Of what is ignored no value is needed, so that a run of digits is cut to its
// first two, and an escaped surrogate loses the digit that makes it one. Neither makes wrong JSON right.
class LineView {
 public:
  LineView(std::string_view line, const TextField& field) : line_(line), field_(&field) {}

  bool at_end() const { return position_ >= line_.size(); }
  std::size_t left_out() const { return left_out_; }
  char current() const {
    const char c = line_[position_];
    return hides_surrogate_ && (c == 'd' || c == 'D') ? '0' : c;
  }
  void advance() {
    const char c = line_[position_++];
    hides_surrogate_ = false;
    if (in_string_) {
      hides_surrogate_ = escaped_ && c == 'u' && !keeps_string_;
      in_string_ = escaped_ || c != '"';
      escaped_ = !escaped_ && c == '\\';
      return;
    }
    in_string_ = c == '"';
    if (in_string_) keeps_string_ = field_->expects_text();
    digits_ = is_digit(c) ? digits_ + 1 : 0;
    if (digits_ < kDigitsSeen) return;
    for (; !at_end() && is_digit(line_[position_]); ++position_) ++left_out_;
  }

 private:
  static constexpr int kDigitsSeen = 2;
  static bool is_digit(char c) { return c >= '0' && c <= '9'; }

  std::string_view line_;
  const TextField* field_;
  std::size_t position_ = 0;
  std::size_t left_out_ = 0;
  bool in_string_ = false;
  bool escaped_ = false;          // the character at hand follows a backslash
  bool keeps_string_ = false;     // the string at hand is the text
  bool hides_surrogate_ = false;  // the character at hand is the first digit of an escape that is ignored
  int digits_ = 0;
};

// What the parser reads from; all copies share one view.
class LineIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = char;

  LineIterator() = default;
  explicit LineIterator(LineView& view) : view_(&view) {}

  char operator*() const { return view_->current(); }
  LineIterator& operator++() {
    view_->advance();
    return *this;
  }
  void operator++(int) { view_->advance(); }
  bool operator==(const LineIterator& other) const { return ended() == other.ended(); }

 private:
  bool ended() const { return view_ == nullptr || view_->at_end(); }

  LineView* view_ = nullptr;
};

}  // namespace

std::string read_text_field(std::string_view line, const std::string& where) {
  // The parser takes a zero byte for the end of its input.
  if (const std::size_t zero = line.find('\0'); zero != std::string_view::npos) {
    throw InputError(where + "no valid JSON at byte " + std::to_string(zero + 1) + " of the line: a zero byte");
  }
  TextField field;
  LineView view(line, field);
  nlohmann::json::sax_parse(LineIterator(view), LineIterator(), &field);
  return field.take(where, view.left_out());
}

}  // namespace ufp4::data
