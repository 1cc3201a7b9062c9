// From the values of one block to its scale and codes: one function a scale rule, line by line after docs/numerics.md.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "ufp4/operand.h"

namespace ufp4::reference {

// A quantized block: the decoded scale, a code (0..15) an element, and what the format keeps beside them.
struct Block {
  float scale = 0;
  std::array<std::uint8_t, 128> codes{};
  std::array<std::uint8_t, 32> selectors{};  // one for each selector_block elements
  bool clipped = false;                      // too large for the window of scales that the outer scale places
};

// Quantizes one block of (transformed) FP32 values; of the spec it reads format and options. `n16` holds the 16-bit
// random number of each element for stochastic rounding and is empty for nearest. `outer_amax` is the largest magnitude
// of what shares the second-level scale; formats without one do not read it. A block with a NaN or an infinity gets
// scale NaN and codes 0; where the scale is an integer, 0.
Block quantize_block(std::span<const float> values, const OperandSpec& spec, std::span<const std::uint32_t> n16,
                     float outer_amax);

// The tau that a spec asks for, of a format with a window.
float tau_of(const OperandSpec& spec);

// What a block adds to the magnitude that a second-level scale follows from: its largest magnitude, or of
// outer_of_extremes() the scale that its extremes ask for. A block with a NaN or an infinity adds 0; of
// outer_of_extremes() -0, which says that there is one.
float outer_magnitude(const BlockFormat& format, std::span<const float> values);

// Both magnitudes together: the larger, with a sign if one has it.
float raised(float outer_amax, float by);

// The second-level scale of `outer_amax`: 1 for formats that have none, NaN for one with a sign.
float outer_scale(const BlockFormat& format, float outer_amax);

// The value of element i of a block before the second-level scale: level * scale.
float element_value(const BlockFormat& format, unsigned code, float scale, unsigned selector);

}  // namespace ufp4::reference
