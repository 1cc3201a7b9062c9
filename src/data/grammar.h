// The grammar of the built-in language as a finite automaton whose state is known from the text so far.
//
// In a state the automaton draws one event: a word with the space after it, or a punctuation mark. The strings of the
// events of a state are prefix-free (a space, or a mark that no word begins with, ends each), and the event decides the
// next state. So from the start of a document the text determines the states that it went through, and nothing is
// hidden from who reads it from there.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ufp4::data {

// Stands in event strings for the separator, the one token that is no byte.
inline constexpr char kSeparatorMark = '\x7f';

struct Event {
  std::string text;
  double probability = 0;
  std::uint16_t arm = 0;  // into State::next
};

// The events of a state, in the order of their texts. States that differ only in what follows share it.
struct Emission {
  std::vector<Event> events;
};

struct State {
  std::uint32_t emission = 0;
  std::vector<std::uint32_t> next;  // one state an arm
};

struct Grammar {
  std::vector<Emission> emissions;
  std::vector<State> states;  // 0 begins a document
};

// Documents of sentences on one topic of 24:
// - the first line is the topic's name; the last words are "end" and the same name; the name recurs between;
// - the topic reorders which nouns are frequent (Zipf's law within a class) and which class is a usual subject;
// - determiner, noun and verb agree in number, over adjectives, asides and prepositional phrases between them;
// - verbs have their usual subject and object classes, adjectives their usual nouns;
// - a bracket of one of three kinds is closed by its fellow; a question is ended by a question mark.
Grammar make_grammar();

}  // namespace ufp4::data
