#include "data/language.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <string_view>
#include <utility>

#include "data/dataset.h"

namespace ufp4::data {
namespace {

double minus_p_log_p(double p) { return p > 0 ? -p * std::log(p) : 0; }

// Stop pushing the mass of a document forward when so little of it is left.
constexpr double kNegligibleMass = 1e-18;

// mean_entropy() goes on with the limit once the entropy of a token has been this near to it for so many tokens, more
// than a document has: what is left out is then below 1e-9 nats a token.
constexpr double kConverged = 1e-11;
constexpr int kConvergedTokens = 512;

// Event texts of one length that lead from one state to another.
struct Move {
  std::uint32_t to;
  std::uint32_t tokens;
  double probability;
};

}  // namespace

const Language& Language::builtin() {
  static const Language language(make_grammar());
  return language;
}

Language::Language(Grammar grammar) : grammar_(std::move(grammar)) {
  for (const Emission& emission : grammar_.emissions) {
    measures_.push_back(measure(emission));
    longest_ = std::max(longest_, measures_.back().prefix_entropy.size() - 1);
  }
  sum_over_document();
}

Language::Measures Language::measure(const Emission& emission) {
  Measures measures;
  const std::vector<Event>& events = emission.events;
  double sum = 0;
  std::size_t longest = 0;
  std::size_t arms = 0;
  for (const Event& event : events) {
    measures.cumulative.push_back(sum);
    sum += event.probability;
    longest = std::max(longest, event.text.size());
    arms = std::max(arms, std::size_t{event.arm} + 1);
    measures.length += event.probability * static_cast<double>(event.text.size());
  }
  measures.cumulative.push_back(1.0);

  // The texts are sorted, so those with the same first m tokens stand together.
  for (std::size_t m = 0; m <= longest; ++m) {
    double entropy = 0;
    double group = 0;
    for (std::size_t i = 0; i < events.size(); ++i) {
      const std::string_view prefix = std::string_view(events[i].text).substr(0, m);
      if (i > 0 && prefix != std::string_view(events[i - 1].text).substr(0, m)) {
        entropy += minus_p_log_p(group);
        group = 0;
      }
      group += events[i].probability;
    }
    measures.prefix_entropy.push_back(entropy + (m == 0 ? 0 : minus_p_log_p(group)));
  }

  std::vector<std::map<int, double>> lengths(arms);
  for (const Event& event : events) lengths[event.arm][static_cast<int>(event.text.size())] += event.probability;
  for (const auto& arm : lengths) measures.lengths.emplace_back(arm.begin(), arm.end());
  return measures;
}

void Language::sum_over_document() {
  std::vector<double> mass(grammar_.states.size(), 0);
  mass[0] = 1;
  double entropy = 0;
  double left = 1;
  while (left > kNegligibleMass) {
    std::vector<double> moved(mass.size(), 0);
    for (std::size_t s = 0; s < mass.size(); ++s) {
      if (mass[s] == 0) continue;
      const State& state = grammar_.states[s];
      const Measures& measures = measures_[state.emission];
      entropy += mass[s] * measures.prefix_entropy.back();
      tokens_per_document_ += mass[s] * measures.length;
      for (std::size_t arm = 0; arm < state.next.size(); ++arm) {
        double probability = 0;
        for (const auto& [length, p] : measures.lengths[arm]) probability += p;
        moved[state.next[arm]] += mass[s] * probability;
      }
    }
    moved[0] = 0;  // the document has ended
    mass = std::move(moved);
    left = 0;
    for (const double m : mass) left += m;
  }
  entropy_rate_ = entropy / tokens_per_document_;
}

double Language::mean_entropy(std::int64_t tokens) const {
  const std::size_t states = grammar_.states.size();
  std::vector<Move> moves;  // of state s: from first_move[s] up to first_move[s + 1]
  std::vector<std::size_t> first_move;
  for (const State& state : grammar_.states) {
    first_move.push_back(moves.size());
    std::map<std::pair<std::uint32_t, int>, double> merged;
    for (std::size_t arm = 0; arm < state.next.size(); ++arm) {
      for (const auto& [length, p] : measures_[state.emission].lengths[arm]) merged[{state.next[arm], length}] += p;
    }
    for (const auto& [move, p] : merged) moves.push_back({move.first, static_cast<std::uint32_t>(move.second), p});
  }
  first_move.push_back(moves.size());

  const std::size_t ring = longest_ + 1;
  std::vector<double> begins(ring * states, 0);  // q_t(s) at (t mod ring, s)
  std::vector<double> entropy_at(ring, 0);       // of token t, by the events begun so far, at t mod ring
  begins[0] = 1;
  double total = 0;
  int converged = 0;
  for (std::int64_t t = 0; t < tokens; ++t) {
    const auto now = static_cast<std::size_t>(t) % ring;
    for (std::size_t s = 0; s < states; ++s) {
      const double q = std::exchange(begins[now * states + s], 0);
      if (q == 0) continue;
      const std::vector<double>& prefix_entropy = measures_[grammar_.states[s].emission].prefix_entropy;
      for (std::size_t j = 1; j < prefix_entropy.size(); ++j) {
        entropy_at[(now + j - 1) % ring] += q * (prefix_entropy[j] - prefix_entropy[j - 1]);
      }
      for (std::size_t m = first_move[s]; m < first_move[s + 1]; ++m) {
        std::size_t slot = now + moves[m].tokens;
        if (slot >= ring) slot -= ring;
        begins[slot * states + moves[m].to] += q * moves[m].probability;
      }
    }
    const double here = std::exchange(entropy_at[now], 0);
    total += here;
    converged = std::abs(here - entropy_rate_) < kConverged ? converged + 1 : 0;
    if (converged == kConvergedTokens) {
      total += entropy_rate_ * static_cast<double>(tokens - t - 1);
      break;
    }
  }
  return total / static_cast<double>(tokens);
}

void Text::draw() {
  const Language::Measures& measures = language_->measures_[language_->grammar_.states[state_].emission];
  constexpr double kTwoToMinus53 = 1.0 / 9007199254740992.0;
  const double uniform = static_cast<double>(random64(seed_, purpose_, index_, draws_++) >> 11) * kTwoToMinus53;
  const auto& cumulative = measures.cumulative;
  event_ = static_cast<std::size_t>(std::upper_bound(cumulative.begin(), cumulative.end() - 1, uniform) -
                                    cumulative.begin()) -
           1;
  spelled_ = 0;
  low_ = 0;
  high_ = cumulative.size() - 1;
}

std::int32_t Text::next(double* nats) {
  const State& state = language_->grammar_.states[state_];
  const std::vector<Event>& events = language_->grammar_.emissions[state.emission].events;
  const Event& event = events[event_];
  const char mark = event.text[spelled_];
  if (nats != nullptr) {
    const auto& cumulative = language_->measures_[state.emission].cumulative;
    const std::size_t at = spelled_;
    const double before = cumulative[high_] - cumulative[low_];
    const auto begin = events.begin();
    const auto low = begin + static_cast<std::ptrdiff_t>(low_);
    const auto high = begin + static_cast<std::ptrdiff_t>(high_);
    low_ = static_cast<std::size_t>(
        std::lower_bound(low, high, mark, [at](const Event& e, char c) { return e.text[at] < c; }) - begin);
    high_ = static_cast<std::size_t>(
        std::upper_bound(low, high, mark, [at](char c, const Event& e) { return c < e.text[at]; }) - begin);
    *nats = std::log(before / (cumulative[high_] - cumulative[low_]));
  }
  if (++spelled_ == event.text.size()) {
    state_ = state.next[event.arm];
    draw();
  }
  return mark == kSeparatorMark ? kEndOfDocument : static_cast<std::int32_t>(static_cast<unsigned char>(mark));
}

}  // namespace ufp4::data
