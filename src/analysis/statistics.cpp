#include "analysis/statistics.h"

namespace ufp4::analysis {

double effective_bucket_ratio(std::span<const double> shares) {
  double entropy = 0;
  for (const double p : shares) {
    if (p > 0) entropy -= p * std::log(p);
  }
  return shares.empty() ? 0 : std::exp(entropy) / static_cast<double>(shares.size());
}

std::vector<double> signed_shares(std::span<const double> level_shares) {
  std::vector<double> shares;
  for (std::size_t i = 0; i < level_shares.size(); ++i) {
    if (i == 0) {
      shares.push_back(level_shares[0]);
    } else {
      shares.insert(shares.end(), 2, level_shares[i] / 2);
    }
  }
  return shares;
}

}  // namespace ufp4::analysis
