#include "data/grammar.h"

#include <algorithm>
#include <array>
#include <map>
#include <tuple>
#include <utility>

#include "data/lexicon.h"

namespace ufp4::data {
namespace {

// Where in a sentence the automaton stands.
enum class Place {
  kTitle,
  kSentence,      // a new sentence
  kSubject,       // after a determiner
  kAfterSubject,  // detail: the subject's noun class
  kPhrase,        // after a preposition that belongs to the subject
  kPhraseNoun,    // detail: the number of the phrase
  kAside,         // after an opening bracket
  kAsidePhrase,   // after the aside's preposition
  kAsideNoun,     // detail: the number of the phrase
  kAsideClose,
  kVerb,
  kAfterVerb,    // detail: the verb's class
  kObject,       // after a determiner; detail: the verb's class
  kObjectNoun,   // after an adjective; detail: its class
  kSubjectNoun,  // the same of the subject
  kAfterObject,
  kClause,  // after "and"
  kEnding,  // after "end"
};

struct Node {
  Place place = Place::kTitle;
  int topic = 0;
  bool question = false;
  int number = 0;  // of the subject, or of the object after its determiner
  int detail = 0;
  int bracket = 0;

  auto key() const { return std::tuple(place, topic, question, number, detail, bracket); }
};

enum class Kind { kMark, kName, kNoun, kVerb, kAdjective, kAdverb, kDeterminer, kAuxiliary, kPreposition };

// One of a state's alternatives: a class of words with a weight, and what follows.
struct Arm {
  double weight;
  Kind kind;
  int word_class;
  int number;
  const char* mark;  // the text of a kMark
  Node next;
};

constexpr std::array<const char*, 3> kOpening = {"( ", "[ ", "- "};
constexpr std::array<const char*, 3> kClosing = {") ", "] ", "; "};

double zipf(int rank) { return 1.0 / (rank + 3); }

// The place of word `rank` in a topic's own order of frequency: a multiplication modulo the prime size of the class.
int topical_rank(int rank, int topic, int size) { return (rank * (5 * topic + 2) + 17 * topic) % size; }

class Builder {
 public:
  Grammar build() {
    state_of({});
    for (std::size_t i = 0; i < nodes_.size(); ++i) {  // nodes_ grows as new ones are met
      const Node node = nodes_[i];
      const std::vector<Arm> arms = arms_of(node);
      State state{emission_of(arms, node.topic), {}};
      for (const Arm& arm : arms) state.next.push_back(state_of(arm.next));
      grammar_.states[i] = std::move(state);
    }
    return std::move(grammar_);
  }

 private:
  std::uint32_t state_of(const Node& node) {
    const auto [entry, is_new] = numbers_.try_emplace(node.key(), static_cast<std::uint32_t>(nodes_.size()));
    if (is_new) {
      nodes_.push_back(node);
      grammar_.states.emplace_back();
    }
    return entry->second;
  }

  std::vector<Arm> arms_of(const Node& at) const;
  std::vector<std::pair<std::string, double>> words_of(const Arm& arm, int topic) const;
  std::uint32_t emission_of(const std::vector<Arm>& arms, int topic);

  using Signature = std::vector<std::tuple<double, Kind, int, int, std::string>>;

  const Lexicon lexicon_ = make_lexicon();
  Grammar grammar_;
  std::vector<Node> nodes_;
  std::map<decltype(Node{}.key()), std::uint32_t> numbers_;
  std::map<std::pair<int, Signature>, std::uint32_t> emissions_;
};

Arm mark(double weight, const char* text, Node next) { return {weight, Kind::kMark, 0, 0, text, next}; }
Arm word(double weight, Kind kind, int word_class, int number, Node next) {
  return {weight, kind, word_class, number, "", next};
}

std::vector<Arm> Builder::arms_of(const Node& at) const {
  std::vector<Arm> arms;
  // A copy of `at` elsewhere in the sentence.
  const auto to = [&at](Place place, int number, int detail = 0) {
    Node next = at;
    next.place = place;
    next.number = number;
    next.detail = detail;
    return next;
  };
  const auto determiners = [&](double weight, Place place, int detail = 0) {
    arms.push_back(word(0.6 * weight, Kind::kDeterminer, 0, 0, to(place, 0, detail)));
    arms.push_back(word(0.4 * weight, Kind::kDeterminer, 0, 1, to(place, 1, detail)));
  };
  // A usual class takes more than half, its neighbour a quarter, the others share the rest.
  const auto nouns = [&](double weight, int usual, int number, const auto& next) {
    for (int c = 0; c < kNounClasses; ++c) {
      const double share = c == usual ? 0.55 : c == (usual + 1) % kNounClasses ? 0.25 : 0.2 / (kNounClasses - 2);
      arms.push_back(word(weight * share, Kind::kNoun, c, number, next(c)));
    }
  };
  const auto verbs = [&](double weight, int usual) {
    for (int c = 0; c < kVerbClasses; ++c) {
      const double share = c == usual ? 0.7 : 0.3 / (kVerbClasses - 1);
      // After an auxiliary the verb is bare, as in the plural.
      arms.push_back(word(weight * share, Kind::kVerb, c, at.question ? 1 : at.number, to(Place::kAfterVerb, 0, c)));
    }
  };
  const auto adjectives = [&](double weight, Place place) {
    for (int c = 0; c < kAdjectiveClasses; ++c) {
      arms.push_back(word(weight / kAdjectiveClasses, Kind::kAdjective, c, 0, to(place, at.number, c)));
    }
  };

  switch (at.place) {
    case Place::kTitle:
      for (int topic = 0; topic < kTopics; ++topic) {
        Node next{.place = Place::kSentence, .topic = topic};
        Arm arm = word(zipf(topic), Kind::kName, topic, 0, next);
        arm.mark = "\n";
        arms.push_back(arm);
      }
      break;
    case Place::kSentence:
      determiners(0.56, Place::kSubject);
      arms.push_back(word(0.14, Kind::kName, -1, 0, to(Place::kVerb, 0)));
      for (int number = 0; number < kNumbers; ++number) {
        Node next = to(Place::kClause, number);
        next.question = true;
        arms.push_back(word(0.08, Kind::kAuxiliary, 0, number, next));
      }
      arms.push_back(mark(0.14, "end ", to(Place::kEnding, 0)));
      break;
    case Place::kClause:  // a question's auxiliary has set the number already
      if (at.question) {
        arms.push_back(word(0.8, Kind::kDeterminer, 0, at.number, to(Place::kSubject, at.number)));
      } else {
        determiners(0.8, Place::kSubject);
      }
      arms.push_back(word(0.2, Kind::kName, -1, 0, to(Place::kVerb, at.question ? at.number : 0)));
      break;
    case Place::kSubject:
      adjectives(0.3, Place::kSubjectNoun);
      nouns(0.7, at.topic % kNounClasses, at.number, [&](int c) { return to(Place::kAfterSubject, at.number, c); });
      break;
    case Place::kSubjectNoun:
      nouns(1.0, 2 * at.detail, at.number, [&](int c) { return to(Place::kAfterSubject, at.number, c); });
      break;
    case Place::kAfterSubject:
      for (int b = 0; b < 3; ++b) {
        Node next = to(Place::kAside, at.number);
        next.bracket = b;
        arms.push_back(mark(0.04, kOpening[static_cast<std::size_t>(b)], next));
      }
      arms.push_back(word(0.2, Kind::kPreposition, 0, 0, to(Place::kPhrase, at.number)));
      verbs(0.68, at.detail % kVerbClasses);
      break;
    case Place::kPhrase:
      for (int number = 0; number < kNumbers; ++number) {
        arms.push_back(word(0.5, Kind::kDeterminer, 0, number, to(Place::kPhraseNoun, at.number, number)));
      }
      break;
    case Place::kPhraseNoun: nouns(1.0, 1, at.detail, [&](int) { return to(Place::kVerb, at.number); }); break;
    case Place::kAside: arms.push_back(word(1.0, Kind::kPreposition, 0, 0, to(Place::kAsidePhrase, at.number))); break;
    case Place::kAsidePhrase:
      for (int number = 0; number < kNumbers; ++number) {
        arms.push_back(word(0.5, Kind::kDeterminer, 0, number, to(Place::kAsideNoun, at.number, number)));
      }
      break;
    case Place::kAsideNoun: nouns(1.0, 3, at.detail, [&](int) { return to(Place::kAsideClose, at.number); }); break;
    case Place::kAsideClose: {
      Node next = to(Place::kVerb, at.number);
      next.bracket = 0;
      arms.push_back(mark(1.0, kClosing[static_cast<std::size_t>(at.bracket)], next));
      break;
    }
    case Place::kVerb: verbs(1.0, at.topic % kVerbClasses); break;
    case Place::kAfterVerb:
      determiners(0.7, Place::kObject, at.detail);
      arms.push_back(word(0.12, Kind::kName, -1, 0, to(Place::kAfterObject, 0)));
      arms.push_back(word(0.18, Kind::kAdverb, 0, 0, to(Place::kAfterObject, 0)));
      break;
    case Place::kObject:
      adjectives(0.3, Place::kObjectNoun);
      nouns(0.7, at.detail, at.number, [&](int) { return to(Place::kAfterObject, 0); });
      break;
    case Place::kObjectNoun:
      nouns(1.0, 2 * at.detail, at.number, [&](int) { return to(Place::kAfterObject, 0); });
      break;
    case Place::kAfterObject: {
      Node sentence{.place = Place::kSentence, .topic = at.topic};
      Node clause = to(Place::kClause, 0);
      arms.push_back(mark(0.85, at.question ? "? " : ". ", sentence));
      arms.push_back(mark(0.15, ", and ", clause));
      break;
    }
    case Place::kEnding: {
      Arm arm = word(1.0, Kind::kName, at.topic, 0, Node{});
      arm.mark = "\n\x7f";
      arms.push_back(arm);
      break;
    }
  }
  return arms;
}

// The texts of an arm with their shares of it, in proportion.
std::vector<std::pair<std::string, double>> Builder::words_of(const Arm& arm, int topic) const {
  std::vector<std::pair<std::string, double>> words;
  const auto c = static_cast<std::size_t>(arm.word_class);
  const auto n = static_cast<std::size_t>(arm.number);
  const auto by_frequency = [&words](const Words& list) {
    for (const std::string& w : list) words.emplace_back(w + " ", zipf(static_cast<int>(words.size())));
  };
  switch (arm.kind) {
    case Kind::kMark: words.emplace_back(arm.mark, 1.0); break;
    case Kind::kName:
      if (arm.word_class >= 0) {  // the one name that it must be, with what ends the line
        words.emplace_back(lexicon_.names[c] + arm.mark, 1.0);
        break;
      }
      for (int i = 0; i < kTopics; ++i) {  // mostly the document's own
        words.emplace_back(lexicon_.names[static_cast<std::size_t>(i)] + " ", i == topic ? 0.8 : 0.2 / (kTopics - 1));
      }
      break;
    case Kind::kNoun: {
      // Half of the weight by the language's order of frequency, half by the topic's.
      const Words& list = lexicon_.nouns[c][n];
      for (int rank = 0; rank < kNounsOfClass; ++rank) {
        words.emplace_back(list[static_cast<std::size_t>(rank)] + " ",
                           zipf(rank) + zipf(topical_rank(rank, topic, kNounsOfClass)));
      }
      break;
    }
    case Kind::kVerb: by_frequency(lexicon_.verbs[c][n]); break;
    case Kind::kAdjective: by_frequency(lexicon_.adjectives[c]); break;
    case Kind::kAdverb: by_frequency(lexicon_.adverbs); break;
    case Kind::kDeterminer: by_frequency(lexicon_.determiners[n]); break;
    case Kind::kAuxiliary: by_frequency(lexicon_.auxiliaries[n]); break;
    case Kind::kPreposition: by_frequency(lexicon_.prepositions); break;
  }
  return words;
}

std::uint32_t Builder::emission_of(const std::vector<Arm>& arms, int topic) {
  bool topical = false;
  Signature signature;
  for (const Arm& arm : arms) {
    topical = topical || arm.kind == Kind::kNoun || (arm.kind == Kind::kName && arm.word_class < 0);
    signature.emplace_back(arm.weight, arm.kind, arm.word_class, arm.number, arm.mark);
  }
  const auto [entry, is_new] = emissions_.try_emplace(std::pair(topical ? topic : -1, std::move(signature)),
                                                      static_cast<std::uint32_t>(grammar_.emissions.size()));
  if (!is_new) return entry->second;

  double total = 0;
  for (const Arm& arm : arms) total += arm.weight;
  Emission emission;
  for (std::size_t i = 0; i < arms.size(); ++i) {
    const auto words = words_of(arms[i], topic);
    double sum = 0;
    for (const auto& [text, share] : words) sum += share;
    for (const auto& [text, share] : words) {
      emission.events.push_back({text, arms[i].weight / total * (share / sum), static_cast<std::uint16_t>(i)});
    }
  }
  std::sort(emission.events.begin(), emission.events.end(),
            [](const Event& a, const Event& b) { return a.text < b.text; });
  grammar_.emissions.push_back(std::move(emission));
  return entry->second;
}

}  // namespace

Grammar make_grammar() { return Builder().build(); }

}  // namespace ufp4::data
