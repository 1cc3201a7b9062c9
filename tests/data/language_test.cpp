#include "data/language.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>
#include <string>

#include "data/dataset.h"

namespace ufp4::data {
namespace {

std::string write(const Language& language, std::uint64_t seed, std::uint64_t index, int tokens) {
  Text text(language, seed, Purpose::kTrainText, index);
  std::string written;
  for (int i = 0; i < tokens; ++i) {
    const std::int32_t token = text.next();
    written += token == kEndOfDocument ? '\n' : static_cast<char>(token);
  }
  return written;
}

TEST(Grammar, EventsOfAStateAreAPrefixFreeDistribution) {
  const Grammar& grammar = Language::builtin().grammar();
  for (const Emission& emission : grammar.emissions) {
    double sum = 0;
    for (std::size_t i = 0; i < emission.events.size(); ++i) {
      const Event& event = emission.events[i];
      EXPECT_GT(event.probability, 0);
      sum += event.probability;
      // In sorted order a text that begins another stands right before one that it begins.
      ASSERT_FALSE(i > 0 && event.text.starts_with(emission.events[i - 1].text)) << event.text;
    }
    ASSERT_NEAR(sum, 1, 1e-12);
  }
  for (const State& state : grammar.states) {
    std::set<std::size_t> arms;
    for (const Event& event : grammar.emissions[state.emission].events) arms.insert(event.arm);
    ASSERT_EQ(arms.size(), state.next.size());
    for (const std::uint32_t next : state.next) ASSERT_LT(next, grammar.states.size());
  }
}

// The generator's own probabilities, measured over 10^7 tokens of one long text, agree with the exact rate. The
// standard error is that of the mean of blocks, which are nearly independent.
TEST(Language, MeasuredEntropyIsTheExactRate) {
  const Language& language = Language::builtin();
  constexpr int kBlock = 10000;
  constexpr int kBlocks = 1000;
  Text text(language, 7, Purpose::kTrainText, 0);
  double sum = 0;
  double sum_of_squares = 0;
  for (int b = 0; b < kBlocks; ++b) {
    double block = 0;
    for (int i = 0; i < kBlock; ++i) {
      double nats = 0;
      text.next(&nats);
      block += nats;
    }
    block /= kBlock;
    sum += block;
    sum_of_squares += block * block;
  }
  const double mean = sum / kBlocks;
  const double error = std::sqrt((sum_of_squares / kBlocks - mean * mean) / kBlocks);
  EXPECT_NEAR(mean, language.entropy_rate(), 4 * error);
  EXPECT_LT(error, 1e-3);
  RecordProperty("measured", std::to_string(mean));
  RecordProperty("exact", std::to_string(language.entropy_rate()));
}

// The same for short texts, each from the start of a document, whose exact mean is another number for each length.
TEST(Language, MeasuredEntropyOfShortTextsIsTheExactMean) {
  const Language& language = Language::builtin();
  for (const int tokens : {1, 5, 32, 200}) {
    constexpr int kTexts = 10000;
    double sum = 0;
    double sum_of_squares = 0;
    for (int n = 0; n < kTexts; ++n) {
      Text text(language, 3, Purpose::kValText, static_cast<std::uint64_t>(n));
      double mean = 0;
      for (int i = 0; i < tokens; ++i) {
        double nats = 0;
        text.next(&nats);
        mean += nats / tokens;
      }
      sum += mean;
      sum_of_squares += mean * mean;
    }
    const double mean = sum / kTexts;
    const double error = std::sqrt((sum_of_squares / kTexts - mean * mean) / kTexts);
    EXPECT_NEAR(mean, language.mean_entropy(tokens), 4 * error) << tokens;
  }
}

TEST(Language, MeanEntropyTendsToTheRate) {
  const Language& language = Language::builtin();
  double last = 1;
  for (const std::int64_t tokens : {64, 512, 2048}) {
    const double off = std::abs(language.mean_entropy(tokens) - language.entropy_rate());
    EXPECT_LT(off, last);
    last = off;
  }
  EXPECT_LT(last, 1e-3);
  EXPECT_NEAR(language.mean_entropy(std::int64_t{1} << 40), language.entropy_rate(), 1e-9);
}

TEST(Language, IsATextForReadersAndNoTrivialOne) {
  const Language& language = Language::builtin();
  EXPECT_GT(language.entropy_rate(), 0.5);
  EXPECT_LT(language.entropy_rate(), 1.5);
  EXPECT_GT(language.tokens_per_document(), 100);
  EXPECT_LT(language.tokens_per_document(), 1000);
  const std::string text = write(language, 1, 0, 20000);
  std::set<std::string> words;
  std::string word;
  for (const char c : text) {
    ASSERT_TRUE(c == '\n' || (c >= ' ' && c < 0x7F));
    if (c >= 'a' && c <= 'z') {
      word += c;
    } else if (!word.empty()) {
      words.insert(std::move(word));
      word.clear();
    }
  }
  EXPECT_GT(words.size(), 500U);
}

TEST(Language, DocumentsCloseWhatTheyOpen) {
  const std::string text = write(Language::builtin(), 5, 0, 200000);
  std::map<char, char> closing = {{'(', ')'}, {'[', ']'}, {'-', ';'}};
  char open = 0;
  for (const char c : text) {
    if (closing.contains(c)) {
      ASSERT_EQ(open, 0);
      open = closing[c];
    } else if (c == ')' || c == ']' || c == ';') {
      ASSERT_EQ(c, open);
      open = 0;
    }
  }
  int documents = 0;
  for (std::size_t begin = 0, end = 0; (end = text.find("\n\n", begin)) != std::string::npos; begin = end + 2) {
    const std::string document = text.substr(begin, end - begin);
    const std::string name = document.substr(0, document.find('\n'));
    ASSERT_TRUE(document.ends_with("end " + name)) << document;
    ++documents;
  }
  EXPECT_GT(documents, 200);
}

TEST(Language, TextIsFixedBySeedPurposeAndIndex) {
  const Language& language = Language::builtin();
  EXPECT_EQ(write(language, 1, 2, 500), write(language, 1, 2, 500));
  EXPECT_NE(write(language, 1, 2, 500), write(language, 1, 3, 500));
  EXPECT_NE(write(language, 1, 2, 500), write(language, 2, 2, 500));
  Text train(language, 1, Purpose::kTrainText, 2);
  Text val(language, 1, Purpose::kValText, 2);
  int equal = 0;
  for (int i = 0; i < 500; ++i) equal += train.next() == val.next();
  EXPECT_LT(equal, 250);
}

// A change of the words or rules changes the language and must raise Language::kVersion.
TEST(Language, TheFirstTextIsKnown) {
  EXPECT_EQ(write(Language::builtin(), 0, 0, 64), "skelor\nthe zaky rit from the pring troules some vams . has skelo");
}

}  // namespace
}  // namespace ufp4::data
