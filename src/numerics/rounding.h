// One value to a level of an element format: nearest or stochastic.
#pragma once

#include <cstdint>
#include <span>

#include "ufp4/format.h"

namespace ufp4::reference {

// Index of the level nearest to t in [0, largest], a tie to the even index.
int nearest_index(const ElementFormat& element, float t);

// The level below or at t, or the one above it with the probability of t's place between them; u = (n16 + 0.5) / 65536.
int stochastic_index(const ElementFormat& element, float t, std::uint32_t n16);

// The code of a value t = v * (1 / scale), any sign and size: clamped to the largest level (8 on the negative side of
// full elements), rounded as `n16` says (null: nearest).
std::uint8_t encode(const ElementFormat& element, float t, const std::uint32_t* n16);

}  // namespace ufp4::reference
