#include "model/sampling.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "numerics/philox.h"
#include "ufp4/error.h"

namespace ufp4 {
namespace {

// Uniform in (0, 1), of 53 bits.
double uniform(std::uint64_t seed, std::uint64_t draw) {
  constexpr std::uint32_t kPurpose = 0x67656E65;  // "gene": apart from what else a seed is used for
  const philox::Counter words = philox::generate(
      {static_cast<std::uint32_t>(draw), static_cast<std::uint32_t>(draw >> 32), 0, kPurpose}, philox::make_key(seed));
  const std::uint64_t bits = (std::uint64_t{words[0]} << 21) ^ (words[1] >> 11);
  return (static_cast<double>(bits) + 0.5) * 0x1p-53;
}

}  // namespace

std::int32_t sample(std::span<const float> logits, const Sampling& sampling, std::uint64_t draw) {
  for (const float logit : logits) {
    if (!std::isfinite(logit)) throw RunError("the model's logits are not finite: its weights are damaged or diverged");
  }
  const auto most = std::max_element(logits.begin(), logits.end());  // the first of equal ones
  if (sampling.temperature == 0) return static_cast<std::int32_t>(most - logits.begin());
  std::vector<std::int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
    return logits[static_cast<std::size_t>(a)] > logits[static_cast<std::size_t>(b)];
  });
  std::vector<double> weights(order.size());
  for (std::size_t i = 0; i < order.size(); ++i) {
    weights[i] = std::exp((double{logits[static_cast<std::size_t>(order[i])]} - double{*most}) / sampling.temperature);
  }
  const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  // The fewest that have the probability top_p together, at least one.
  std::size_t count = 0;
  double kept = 0;
  while (count < weights.size() && (count == 0 || kept < sampling.top_p * total)) kept += weights[count++];
  const double target = uniform(sampling.seed, draw) * kept;
  double sum = 0;
  for (std::size_t i = 0; i < count; ++i) {
    sum += weights[i];
    if (target < sum) return order[i];
  }
  return order[count - 1];
}

}  // namespace ufp4
