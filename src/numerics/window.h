// The second-level scale of a format with a window of scales (int4_p2: 15 octaves) places that window and costs no
// precision, so it may follow from an amax that is expected before the operand is read. What it takes for it to fit.
#pragma once

namespace ufp4 {

// What is expected of an operand, for what it had the last time: an octave more.
inline constexpr float kWindowRoom = 2;

// An operand may lie this far below what is expected of it: that leaves its blocks six octaves.
inline constexpr float kWindowSlack = 256;

// Whether an operand whose amax is `found` must be quantized for that instead of for `expected`: its blocks may be too
// large for the window, or it is so far below that the window holds little of it. `least`: of the format's window, the
// amax below which the second-level scale is 0.
constexpr bool leaves_window(float expected, float found, float least) {
  if (found < least) return false;  // zeros, whatever the window
  return found > expected || found * kWindowSlack < expected;
}

// What becomes of an operand of which `expected` was expected when its amax was `found`.
struct Settled {
  bool again;  // it must be quantized for what was found
  float amax;  // what it is quantized for in the end
  bool left;   // something was expected, and it did not fit
};

constexpr Settled settle_window(float expected, float found, float least) {
  const bool again = leaves_window(expected, found, least);
  return {again, again ? found : expected, again && expected >= least};
}

}  // namespace ufp4
