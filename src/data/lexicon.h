// The words of the built-in language: function words are English, all others are made of syllables.
#pragma once

#include <array>
#include <string>
#include <vector>

namespace ufp4::data {

inline constexpr int kTopics = 24;
inline constexpr int kNounClasses = 6;
inline constexpr int kVerbClasses = 4;
inline constexpr int kAdjectiveClasses = 3;
inline constexpr int kNumbers = 2;  // singular, plural

// Sizes are primes, so that the topics can reorder a class by a multiplication.
inline constexpr int kNounsOfClass = 211;
inline constexpr int kVerbsOfClass = 101;
inline constexpr int kAdjectivesOfClass = 101;
inline constexpr int kAdverbs = 61;

using Words = std::vector<std::string>;  // the most frequent first

// No word stands twice, whatever its class and number; every word is letters a to z.
struct Lexicon {
  Words names;                                                  // one a topic
  std::array<std::array<Words, kNumbers>, kNounClasses> nouns;  // [class][number]
  std::array<std::array<Words, kNumbers>, kVerbClasses> verbs;  // [class][number of the subject]
  std::array<Words, kAdjectiveClasses> adjectives;
  Words adverbs;
  std::array<Words, kNumbers> determiners;
  std::array<Words, kNumbers> auxiliaries;  // open a question
  Words prepositions;
};

Lexicon make_lexicon();

}  // namespace ufp4::data
