#include "data/lexicon.h"

#include <cstdint>
#include <set>
#include <string_view>

#include "data/shuffle.h"

namespace ufp4::data {
namespace {

constexpr std::uint64_t kLexiconSeed = 1;

constexpr auto kOnsets =
    std::to_array<std::string_view>({"b",  "br", "d", "dr", "f",  "fl", "g", "gr", "h",  "k", "kl", "l", "m", "n", "p",
                                     "pr", "r",  "s", "sk", "sh", "st", "t", "th", "tr", "v", "w",  "y", "z", ""});
constexpr auto kVowels = std::to_array<std::string_view>({"a", "e", "i", "o", "u", "ai", "ea", "oo", "ou"});
constexpr auto kCodas = std::to_array<std::string_view>({"", "", "l", "m", "n", "r", "t", "k", "nd", "rk", "lt", "ng"});

class WordMaker {
 public:
  explicit WordMaker(std::set<std::string> taken) : taken_(std::move(taken)) {}

  // `count` stems whose forms stem + ending are all new; the frequent ones are short.
  std::vector<Words> make(int count, const std::vector<std::string_view>& endings) {
    std::vector<Words> forms(endings.size());
    for (int rank = 0; rank < count; ++rank) {
      const std::string stem = new_stem(rank < 8 ? 1 : rank < 90 ? 2 : 3, endings);
      for (std::size_t i = 0; i < endings.size(); ++i) {
        forms[i].push_back(stem + std::string(endings[i]));
        taken_.insert(forms[i].back());
      }
    }
    return forms;
  }

 private:
  template <typename Table>
  std::string_view draw(const Table& table) {
    return table[scale_to(random64(kLexiconSeed, Purpose::kWords, draws_++, 0), table.size())];
  }

  std::string new_stem(int syllables, const std::vector<std::string_view>& endings) {
    for (;;) {
      std::string stem;
      for (int i = 0; i < syllables; ++i) {
        stem += draw(kOnsets);
        stem += draw(kVowels);
      }
      stem += draw(kCodas);
      bool is_new = stem.size() > 1;
      for (const std::string_view ending : endings) is_new = is_new && !taken_.contains(stem + std::string(ending));
      if (is_new) return stem;
    }
  }

  std::set<std::string> taken_;
  std::uint64_t draws_ = 0;
};

}  // namespace

Lexicon make_lexicon() {
  Lexicon lexicon;
  lexicon.determiners = {Words{"the", "a", "this", "every", "one", "that"},
                         Words{"some", "these", "many", "all", "few", "two"}};
  lexicon.auxiliaries = {Words{"does", "has"}, Words{"do", "have"}};
  lexicon.prepositions = {"of", "in", "with", "on", "by", "under", "near", "behind", "from", "without"};
  std::set<std::string> taken = {"and", "end", "then"};
  for (const Words* words : {&lexicon.determiners[0], &lexicon.determiners[1], &lexicon.auxiliaries[0],
                             &lexicon.auxiliaries[1], &lexicon.prepositions}) {
    taken.insert(words->begin(), words->end());
  }
  WordMaker maker(std::move(taken));
  for (auto& words : lexicon.nouns) {
    const auto forms = maker.make(kNounsOfClass, {"", "s"});
    words = {forms[0], forms[1]};
  }
  for (auto& words : lexicon.verbs) {
    const auto forms = maker.make(kVerbsOfClass, {"es", ""});
    words = {forms[0], forms[1]};
  }
  for (auto& words : lexicon.adjectives) words = maker.make(kAdjectivesOfClass, {"y"})[0];
  lexicon.adverbs = maker.make(kAdverbs, {"ly"})[0];
  lexicon.names = maker.make(kTopics, {"or"})[0];
  return lexicon;
}

}  // namespace ufp4::data
