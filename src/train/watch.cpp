#include "train/watch.h"

#include <cmath>
#include <cstdio>

namespace ufp4 {
namespace {

constexpr std::int64_t kFirstSteps = 20;  // before the running figures mean something
constexpr std::int64_t kQuietSteps = 20;  // behind a spike
constexpr double kShare = 1.0 / 20;       // of a new loss in the running figures
constexpr double kDeviations = 6;
constexpr double kLeastShare = 0.05;  // of the mean
constexpr double kDrift = 3;          // dB

std::string text_of(const char* format, auto... values) {
  char text[256];
  std::snprintf(text, sizeof text, format, values...);
  return text;
}

}  // namespace

std::optional<std::string> LossWatch::see(std::int64_t step, double loss) {
  if (!std::isfinite(loss)) return std::nullopt;  // the trainer speaks of it
  std::optional<std::string> message;
  const double above = loss - mean_;
  const double deviation = std::sqrt(variance_);
  if (seen_ >= kFirstSteps && step >= quiet_until_ && above > kDeviations * deviation && above > kLeastShare * mean_) {
    message = text_of("step %lld: the loss has a spike: %.4f, after %.4f with a deviation of %.4f",
                      static_cast<long long>(step), loss, mean_, deviation);
    quiet_until_ = step + kQuietSteps;
  }
  const double share = seen_ < kFirstSteps ? 1.0 / static_cast<double>(seen_ + 1) : kShare;
  mean_ += share * above;
  variance_ = seen_ == 0 ? 0 : (1 - share) * (variance_ + share * above * above);
  ++seen_;
  return message;
}

std::optional<std::string> SqnrWatch::see(std::int64_t step, const std::string& operand, double sqnr_db) {
  if (!std::isfinite(sqnr_db)) return std::nullopt;
  const auto [found, first] = operands_.try_emplace(operand, Seen{sqnr_db, 0});
  Seen& seen = found->second;
  if (sqnr_db > seen.best) seen = {sqnr_db, 0};
  const double fallen = seen.best - sqnr_db;
  if (first || fallen < seen.told + kDrift) return std::nullopt;
  seen.told = fallen;
  return text_of("step %lld: the SQNR of %s has fallen to %.2f dB, from %.2f dB", static_cast<long long>(step),
                 operand.c_str(), sqnr_db, seen.best);
}

}  // namespace ufp4
