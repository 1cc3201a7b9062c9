// Which token follows, from the logits: a pure function of them and of numbered random words.
#pragma once

#include <cstdint>
#include <span>

namespace ufp4 {

struct Sampling {
  double temperature = 1;  // 0: the most probable token
  double top_p = 1;        // only the most probable tokens that have this probability together
  std::uint64_t seed = 0;
};

// The token for draw number `draw` of the seed. Of equal logits the lower token counts as the more probable one. Throws
// RunError for logits that are not finite.
std::int32_t sample(std::span<const float> logits, const Sampling& sampling, std::uint64_t draw);

}  // namespace ufp4
