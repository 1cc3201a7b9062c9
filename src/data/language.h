// The built-in language: an unlimited text of bytes in documents whose next-token distribution, and so whose entropy,
// is known exactly. No model can have a lower expected loss than the entropy; one that reaches it has learned all.
//
// Why the entropy is exact. Let X be the tokens from the start of a document on. The grammar (data/grammar.h) draws
// events, their texts are prefix-free in each state, and event and state give the next state; so the tokens so far
// determine the state and the part of an event that has been spelled, and the next token's conditional distribution
// given *all* the past is the grammar's own. By the chain rule the entropy of the first T tokens is the sum of the
// entropies of the events in them, each at the state where it is drawn, the last one cut where T cuts it:
//
//   H(X_1 .. X_T) = sum over t < T, states s of  q_t(s) * H(first T - t tokens of the event drawn in s)
//
// where q_t(s) is the probability that an event begins at token t in state s. q follows forwards from q_0 (the start)
// through the lengths and next states of the events. mean_entropy(T) is that sum over T.
//
// The rate for T -> infinity. Documents are independent, each begins in the start state: a renewal process. Its rate is
// the expected entropy of a document over its expected length (renewal-reward theorem), and both are sums over states
// of the expected visits in a document, which follow by pushing the start's mass forward until all of it has ended.
//
// No sampling and no approximation stand in either: they are right to the rounding of doubles (mean_entropy() of many
// thousand tokens to 1e-9, for it goes over to the rate where the start is forgotten).
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "data/grammar.h"
#include "data/shuffle.h"

namespace ufp4::data {

class Language {
 public:
  // Of the words and rules: another version is another language.
  static constexpr int kVersion = 1;

  // The one language, made at the first call (safe from several threads).
  static const Language& builtin();

  double entropy_rate() const { return entropy_rate_; }  // nats a token, T -> infinity
  double tokens_per_document() const { return tokens_per_document_; }

  // Nats a token, expected over the first `tokens` >= 1 tokens from the start of a document (over its end and into
  // further documents).
  double mean_entropy(std::int64_t tokens) const;

  const Grammar& grammar() const { return grammar_; }

 private:
  friend class Text;

  // What the sums above need of an emission.
  struct Measures {
    std::vector<double> cumulative;                            // before each event, and 1 at the end
    std::vector<double> prefix_entropy;                        // of the first m tokens, m = 0 .. the longest event
    double length = 0;                                         // expected tokens
    std::vector<std::vector<std::pair<int, double>>> lengths;  // of each arm: (tokens, probability)
  };

  explicit Language(Grammar grammar);
  static Measures measure(const Emission& emission);
  void sum_over_document();

  Grammar grammar_;
  std::vector<Measures> measures_;  // one an emission
  std::size_t longest_ = 0;         // tokens of the longest event
  double entropy_rate_ = 0;
  double tokens_per_document_ = 0;
};

// Text number `index` of a purpose and seed, from the start of a document, token by token and without end.
class Text {
 public:
  Text(const Language& language, std::uint64_t seed, Purpose purpose, std::uint64_t index)
      : language_(&language), seed_(seed), purpose_(purpose), index_(index) {
    draw();
  }

  // The next token; `nats`, if given, receives -log of the probability that it had given all tokens before it.
  std::int32_t next(double* nats = nullptr);

 private:
  void draw();

  const Language* language_;
  std::uint64_t seed_;
  Purpose purpose_;
  std::uint64_t index_;
  std::uint32_t draws_ = 0;
  std::size_t state_ = 0;
  std::size_t event_ = 0;  // of the state's emission
  std::size_t spelled_ = 0;
  std::size_t low_ = 0, high_ = 0;  // the events that begin as this one was spelled so far
};

}  // namespace ufp4::data
