#include "config/key.h"

#include <algorithm>
#include <charconv>

#include "numerics/near_name.h"
#include "ufp4/error.h"

namespace ufp4 {
namespace {

template <class T>
std::optional<Value> parse_number(std::string_view text) {
  T number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

std::vector<std::string> split_list(std::string_view text) {
  std::vector<std::string> items;
  while (!text.empty()) {
    const std::size_t comma = std::min(text.find(','), text.size());
    if (comma > 0) items.emplace_back(text.substr(0, comma));
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  return items;
}

std::optional<Value> parse_one(const Domain& domain, const std::string& text) {
  switch (domain.kind) {
    case ValueKind::kText: return text;
    case ValueKind::kList: return split_list(text);
    case ValueKind::kFlag:
      if (text != "true" && text != "false") return std::nullopt;
      return text == "true";
    case ValueKind::kWhole: return parse_number<std::int64_t>(text);
    case ValueKind::kReal: return parse_number<double>(text);
    case ValueKind::kChoice: break;
  }
  const auto found = std::find(domain.choices.begin(), domain.choices.end(), text);
  if (found == domain.choices.end()) return std::nullopt;
  return Choice{static_cast<std::size_t>(found - domain.choices.begin())};
}

std::string bound_text(const Domain& domain, double value) {
  return domain.kind == ValueKind::kWhole ? std::to_string(static_cast<std::int64_t>(value)) : number_text(value);
}

std::string choices_text(const Domain& domain) {
  if (domain.choices.size() == 2) {
    return "'" + std::string(domain.choices[0]) + "' or '" + std::string(domain.choices[1]) + "'";
  }
  std::string text = "one of";
  for (const std::string_view choice : domain.choices) text += (text == "one of" ? " " : ", ") + std::string(choice);
  return text;
}

template <class... F>
struct Overload : F... {
  using F::operator()...;
};
template <class... F>
Overload(F...) -> Overload<F...>;  // Clang 14 does not deduce it

}  // namespace

std::optional<Value> parse_value(const Domain& domain, const std::vector<std::string>& text) {
  if (text.size() == 1) return parse_one(domain, text.front());
  if (domain.kind == ValueKind::kList) return text;
  return std::nullopt;
}

bool in_range(const Domain& domain, const Value& value) {
  const auto inside = [&](double number) { return number >= domain.min && number <= domain.max; };
  if (const auto* whole = std::get_if<std::int64_t>(&value)) return inside(static_cast<double>(*whole));
  if (const auto* real = std::get_if<double>(&value)) return inside(*real);
  return true;
}

std::vector<std::string> text_of(const Domain& domain, const Value& value) {
  using List = std::vector<std::string>;
  return std::visit(Overload{
                        [](const std::string& text) { return List{text}; },
                        [](const List& list) { return list; },
                        [](bool flag) { return List{flag ? "true" : "false"}; },
                        [](std::int64_t whole) { return List{std::to_string(whole)}; },
                        [](double real) { return List{number_text(real)}; },
                        [&](Choice choice) { return List{std::string(domain.choices[choice.index])}; },
                    },
                    value);
}

std::string range_text(const Domain& domain) {
  return bound_text(domain, domain.min) + " to " + bound_text(domain, domain.max);
}

std::string expectation(const Domain& domain) {
  if (!domain.words.empty()) return std::string(domain.words);
  switch (domain.kind) {
    case ValueKind::kText: return "text";
    case ValueKind::kList: return "a list of names";
    case ValueKind::kFlag: return "true or false";
    case ValueKind::kWhole: return "a whole number from " + range_text(domain);
    case ValueKind::kReal: return "a number from " + range_text(domain);
    case ValueKind::kChoice: break;
  }
  return choices_text(domain);
}

std::string choice_hint(const Domain& domain, std::string_view text) {
  const std::string_view near = near_name(text, domain.choices);
  return near.empty() ? "" : " (did you mean '" + std::string(near) + "'?)";
}

std::string number_text(double value) {
  std::array<char, 32> buffer{};
  const auto result = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value);
  return {buffer.data(), result.ptr};
}

std::string joined(const std::vector<std::string>& items, std::string_view separator) {
  std::string text;
  for (std::size_t i = 0; i < items.size(); ++i) text += (i == 0 ? "" : std::string(separator)) + items[i];
  return text;
}

std::size_t find_choice_index(std::span<const std::string_view> names, std::string_view what, std::string_view name) {
  const Domain domain{.kind = ValueKind::kChoice, .choices = names, .words = {}};
  if (const auto value = parse_value(domain, {std::string(name)})) return std::get<Choice>(*value).index;
  throw InputError(std::string(what) + " is '" + std::string(name) + "', expected " + expectation(domain) +
                   choice_hint(domain, name));
}

}  // namespace ufp4
