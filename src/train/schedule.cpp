#include "train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace ufp4 {

double learning_rate_factor(const ScheduleSettings& schedule, std::int64_t step) {
  const auto total = static_cast<double>(schedule.steps);
  const double warmup = std::floor(total * schedule.warmup);
  const double now = std::min(static_cast<double>(step), total);
  if (now < warmup) return now / warmup;
  if (schedule.kind == ScheduleKind::kConstant) return 1;
  const bool cosine = schedule.kind == ScheduleKind::kCosine;
  const double start = cosine ? warmup : std::max(warmup, total - std::floor(total * schedule.decay));
  if (now <= start) return 1;
  const double progress = (now - start) / (total - start);
  const double height = cosine ? 0.5 * (1 + std::cos(std::numbers::pi * progress)) : 1 - progress;
  return schedule.final + (1 - schedule.final) * height;
}

}  // namespace ufp4
