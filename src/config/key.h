// A setting as data: its name, the values that it takes, its default and what it is for. Tables of keys serve parsing,
// checking, writing, comparing and documenting (config/describe.h).
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

namespace ufp4 {

// The names of an enum's enumerators, which count from 0, in their order: `list`, specialized for each enum.
template <class E>
struct Names;

template <class E>
constexpr std::string_view choice_name(E value) {
  return Names<E>::list[static_cast<std::size_t>(value)];
}

// All of them with a separator between: "auto|cpu|cuda".
template <class E>
std::string names_of(std::string_view separator) {
  std::string text;
  for (const std::string_view name : Names<E>::list) text.append(text.empty() ? "" : separator).append(name);
  return text;
}

enum class ValueKind : std::uint8_t { kText, kList, kFlag, kWhole, kReal, kChoice };

// The values that a key takes.
struct Domain {
  ValueKind kind = ValueKind::kText;
  double min = 0;  // of numbers
  double max = 0;
  std::span<const std::string_view> choices;  // names of kChoice
  std::string_view words;                     // tells people more than the kind does; may be empty
};

// Which of a domain's names.
struct Choice {
  std::size_t index = 0;
};

using Value = std::variant<std::string, std::vector<std::string>, bool, std::int64_t, double, Choice>;

// The value of that kind, whatever the range of a number. A list may be one text with commas between its items, others
// have one item. Nothing if the text is not of the kind.
std::optional<Value> parse_value(const Domain& domain, const std::vector<std::string>& text);

// Whether a number is in its range; true of all others.
bool in_range(const Domain& domain, const Value& value);

// What parse_value takes; a list has one item an element.
std::vector<std::string> text_of(const Domain& domain, const Value& value);

// "a whole number from 1 to 1000000", "one of wsd, cosine, constant".
std::string expectation(const Domain& domain);

// "1 to 1000000".
std::string range_text(const Domain& domain);

// " (did you mean 'x'?)" where a name of the domain is near; else empty.
std::string choice_hint(const Domain& domain, std::string_view text);

// The shortest text that reads back to the same number.
std::string number_text(double value);

// The items with a separator between them.
std::string joined(const std::vector<std::string>& items, std::string_view separator = ",");

// What a row of a table may say beside name, range and help.
struct KeyUse {
  bool may_change = false;     // whether a run may go on with another value
  std::string_view option{};   // of the program, which stands for the key
  std::string_view initial{};  // how people are told of the default, where its value says too little
  std::string_view words{};    // as in Domain
};

struct KeyFacts {
  std::string_view name;
  Domain domain;
  std::string_view help;
  KeyUse use;
};

// A key of a configuration C.
template <class C>
struct Key : KeyFacts {
  Value (*read)(const C&) = nullptr;
  void (*write)(C&, const Value&) = nullptr;  // of the domain's kind and in its range
};

// Of numbers.
struct Range {
  double min = 0;
  double max = 0;
};

inline constexpr Range kAnyInt{std::numeric_limits<int>::min(), std::numeric_limits<int>::max()};

namespace detail {

// object.*First.*Rest..
template <auto First, auto... Rest, class Object>
constexpr auto& follow(Object& object) {
  if constexpr (sizeof...(Rest) == 0) {
    return object.*First;
  } else {
    return follow<Rest...>(object.*First);
  }
}

template <class C, class M>
C owner_of(M C::*);

template <class T>
constexpr Domain domain_of(Range range, std::string_view words) {
  Domain domain{ValueKind::kText, range.min, range.max, {}, words};
  if constexpr (std::is_same_v<T, bool>) {
    domain.kind = ValueKind::kFlag;
  } else if constexpr (std::is_integral_v<T>) {
    domain.kind = ValueKind::kWhole;
  } else if constexpr (std::is_floating_point_v<T>) {
    domain.kind = ValueKind::kReal;
  } else if constexpr (std::is_enum_v<T>) {
    domain.kind = ValueKind::kChoice;
    domain.choices = Names<T>::list;
  } else if constexpr (std::is_same_v<T, std::vector<std::string>>) {
    domain.kind = ValueKind::kList;
  } else {
    static_assert(std::is_same_v<T, std::string>);
  }
  return domain;
}

template <class T>
Value to_value(const T& member) {
  if constexpr (std::is_enum_v<T>) {
    return Choice{static_cast<std::size_t>(member)};
  } else if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>) {
    return static_cast<std::int64_t>(member);
  } else {
    return member;
  }
}

template <class T>
void from_value(T& member, const Value& value) {
  if constexpr (std::is_same_v<T, bool>) {
    member = std::get<bool>(value);
  } else if constexpr (std::is_integral_v<T>) {
    member = static_cast<T>(std::get<std::int64_t>(value));
  } else if constexpr (std::is_enum_v<T>) {
    member = static_cast<T>(std::get<Choice>(value).index);
  } else {
    member = std::get<T>(value);
  }
}

}  // namespace detail

// The key whose value is the member at the end of a path: key<&RunConfig::train, &TrainSettings::steps>(..).
template <auto First, auto... Rest>
auto key(std::string_view name, Range range, std::string_view help, KeyUse use = {}) {
  using C = decltype(detail::owner_of(First));
  using T = std::remove_cvref_t<decltype(detail::follow<First, Rest...>(std::declval<C&>()))>;
  return Key<C>{{name, detail::domain_of<T>(range, use.words), help, use},
                [](const C& c) { return detail::to_value<T>(detail::follow<First, Rest...>(c)); },
                [](C& c, const Value& value) { detail::from_value<T>(detail::follow<First, Rest...>(c), value); }};
}

template <class C>
const Key<C>* find_key(std::span<const Key<C>> keys, std::string_view name) {
  for (const Key<C>& known : keys) {
    if (known.name == name) return &known;
  }
  return nullptr;
}

// The enumerator of that name. `what` is what has the value in messages: "--device". Throws InputError that lists the
// names.
std::size_t find_choice_index(std::span<const std::string_view> names, std::string_view what, std::string_view name);

template <class E>
E find_choice(std::string_view what, std::string_view name) {
  return static_cast<E>(find_choice_index(Names<E>::list, what, name));
}

}  // namespace ufp4
