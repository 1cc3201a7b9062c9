#include "config/key.h"

#include <gtest/gtest.h>

#include "message_of.h"
#include "ufp4/error.h"

namespace ufp4 {

enum class Fruit : std::uint8_t { kApple, kPear, kPlum };

template <>
struct Names<Fruit> {
  static constexpr std::array<std::string_view, 3> list{"apple", "pear", "plum"};
};

namespace {

struct Inner {
  Fruit fruit = Fruit::kPear;
  std::int64_t count = 3;
};

struct Basket {
  Inner inner;
  double weight = 0.5;
  bool closed = false;
  std::string label = "mine";
  std::vector<std::string> tags{"a", "b"};
};

const std::vector<Key<Basket>>& keys() {
  static const std::vector<Key<Basket>> list{
      key<&Basket::inner, &Inner::fruit>("fruit", {}, "what is inside"),
      key<&Basket::inner, &Inner::count>("count", {1, 10}, "how many"),
      key<&Basket::weight>("weight", {0, 2}, "of all"),
      key<&Basket::closed>("closed", {}, "whether it has a lid"),
      key<&Basket::label>("label", {}, "for people"),
      key<&Basket::tags>("tags", {}, "of the basket"),
  };
  return list;
}

const Key<Basket>& at(std::string_view name) { return *find_key(std::span(keys()), name); }

TEST(Key, WritesWhereItReads) {
  const std::vector<std::pair<std::string, std::vector<std::string>>> values{
      {"fruit", {"plum"}},  {"count", {"10"}},   {"weight", {"1.25"}},
      {"closed", {"true"}}, {"label", {"a, b"}}, {"tags", {"x", "y", "z"}}};
  Basket basket;
  for (const auto& [name, text] : values) {
    const Key<Basket>& known = at(name);
    EXPECT_NE(text_of(known.domain, known.read(basket)), text) << name;
    const auto value = parse_value(known.domain, text);
    ASSERT_TRUE(value) << name;
    EXPECT_TRUE(in_range(known.domain, *value)) << name;
    known.write(basket, *value);
    EXPECT_EQ(text_of(known.domain, known.read(basket)), text) << name;
  }
  EXPECT_EQ(basket.inner.fruit, Fruit::kPlum);
  EXPECT_EQ(basket.inner.count, 10);
  EXPECT_EQ(find_key(std::span(keys()), "colour"), nullptr);
}

TEST(Key, TextThatIsNotOfTheKindIsNoValue) {
  EXPECT_FALSE(parse_value(at("fruit").domain, {"Apple"}));
  EXPECT_FALSE(parse_value(at("count").domain, {"1.5"}));
  EXPECT_FALSE(parse_value(at("count").domain, {"+1"}));
  EXPECT_FALSE(parse_value(at("count").domain, {"1 "}));
  EXPECT_FALSE(parse_value(at("count").domain, {}));
  EXPECT_FALSE(parse_value(at("count").domain, {"1", "2"}));
  EXPECT_FALSE(parse_value(at("weight").domain, {"much"}));
  EXPECT_FALSE(parse_value(at("closed").domain, {"1"}));
}

TEST(Key, NumbersHaveARange) {
  for (const char* outside : {"0", "11", "-1"}) {
    EXPECT_FALSE(in_range(at("count").domain, *parse_value(at("count").domain, {outside}))) << outside;
  }
  for (const char* outside : {"nan", "inf", "2.001"}) {
    EXPECT_FALSE(in_range(at("weight").domain, *parse_value(at("weight").domain, {outside}))) << outside;
  }
}

TEST(Key, AListMayBeOneText) {
  const auto list = [](const std::vector<std::string>& text) {
    return std::get<std::vector<std::string>>(*parse_value(at("tags").domain, text));
  };
  EXPECT_EQ(list({"a,b,,c"}), (std::vector<std::string>{"a", "b", "c"}));
  EXPECT_EQ(list({""}), std::vector<std::string>());
  EXPECT_EQ(list({}), std::vector<std::string>());
  EXPECT_EQ(list({"a,b", "c"}), (std::vector<std::string>{"a,b", "c"}));
}

TEST(Key, PeopleAreToldWhatItTakes) {
  EXPECT_EQ(expectation(at("fruit").domain), "one of apple, pear, plum");
  EXPECT_EQ(expectation(at("count").domain), "a whole number from 1 to 10");
  EXPECT_EQ(expectation(at("weight").domain), "a number from 0 to 2");
  EXPECT_EQ(expectation(at("closed").domain), "true or false");
  EXPECT_EQ(choice_hint(at("fruit").domain, "plumb"), " (did you mean 'plum'?)");
  EXPECT_EQ(choice_hint(at("fruit").domain, "x-ray"), "");
}

TEST(Key, AChoiceIsFoundByItsName) {
  EXPECT_EQ(find_choice<Fruit>("--fruit", "pear"), Fruit::kPear);
  EXPECT_EQ(choice_name(Fruit::kPear), "pear");
  EXPECT_EQ(message_of<InputError>([] { find_choice<Fruit>("--fruit", "peer"); }),
            "--fruit is 'peer', expected one of apple, pear, plum (did you mean 'pear'?)");
}

}  // namespace
}  // namespace ufp4
