// The learning rate over the steps.
#pragma once

#include <cstdint>

#include "config/run_config.h"

namespace ufp4 {

// Learning rate of step 1, 2, .. schedule.steps as a share of the peak: linear warmup to 1, then
//   wsd       1, and over the last `decay` share of the steps linearly down to `final`
//   cosine    half a period of a cosine from 1 down to `final`
//   constant  1
// The last step has exactly `final` (but for constant). Beyond schedule.steps it stays there.
double learning_rate_factor(const ScheduleSettings& schedule, std::int64_t step);

}  // namespace ufp4
