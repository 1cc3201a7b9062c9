// The 4-bit formats, as data. One row of these tables makes a format work in every layer, backend and test.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

#include "ufp4/outer_scale.h"

namespace ufp4 {

// How the 4-bit code of an element spells its sign.
enum class CodeKind : std::uint8_t {
  kSignMagnitude,       // 8 * sign + level index; a zero has code 0, never 8
  kTwosComplement,      // index of the level, negated modulo 16 for negative values; -8 is never produced
  kFullTwosComplement,  // as above and code -8 is used: one magnitude more on one side; the block's scale is signed
};

// A list of magnitudes with a 4-bit code each.
struct ElementFormat {
  std::string_view name;
  int level_count;              // entries of `levels` in use, 2..8
  std::array<float, 8> levels;  // ascending, from 0
  CodeKind code_kind;

  // L of numerics: the largest level that both signs have.
  constexpr float largest() const { return levels[static_cast<std::size_t>(level_count) - 1]; }
  // True if the levels are 0, d, 2d, ..: rounding is then one conversion to an integer.
  constexpr bool uniform() const {
    for (int i = 1; i < level_count; ++i) {
      if (levels[static_cast<std::size_t>(i)] != levels[1] * static_cast<float>(i)) return false;
    }
    return true;
  }
};

// How the scale of a block is stored.
enum class ScaleEncoding : std::uint8_t {
  kFp32,  // any FP32 number; signed for full two's complement elements
  kE4m3,  // 8 bits, largest 448
  kE8m0,  // a power of two, 2^-127 .. 2^127
  kE6m2,  // 8 bits unsigned, 2^-48 .. 1.5 * 2^15
  kPow2,  // +-2^k, k in the format's window
  kInt8,  // +-m, an integer up to the format's outer divisor; 0: a block of zeros, or one that is not finite
};

// How the scale follows from the values of a block: which arithmetic, in which order, as the format's own reference
// does it. numerics/scale_rules.cpp holds one function a rule.
enum class ScaleRule : std::uint8_t {
  kAmax,           // amax / L, or the signed extreme of full elements; one level
  kTensorE4m3,     // E4M3 of amax relative to the tensor's (nvfp4)
  kTensorE4m3Int,  // the same for integers, as fouroversix orders it (nvint4)
  kBestOfTwo,  // kTensorE4m3 for each of two candidates, the one with the smaller squared error (four_over_six, mixfp4)
  kExponentFloor,     // the exponent of amax less that of the largest level (mxfp4)
  kExponentFloorInt,  // the same, as microxcaling divides (mxint4)
  kPow2Window,        // a signed power of two inside a window that a second-level scale places (int4_p2)
  kIntegerMultiple,   // a signed integer times the second-level scale of its segment (int4_i4)
  kTwoLevelExponent   // a scale for the block and one-bit exponents for 8 and for 4 elements (hif4)
};

// A second way to quantize a block, for rules that choose.
struct Alternative {
  ElementFormat element;
  float largest = 0;  // the level that amax is scaled to; 0: there is no alternative
};

// The scales of kPow2Window: 2^least .. 2^largest.
struct PowerWindow {
  int least = 0;
  int largest = 0;
};

// The scales of kIntegerMultiple: whole numbers of the second-level scale, up to the format's outer divisor. To
// nearest, the number that a block asks for is lowered before it is rounded up: clipping an extreme a little costs less
// than a coarser step for all.
struct IntegerScales {
  float lowered = 0;       // by this part of it ..
  float most_lowered = 0;  // .. and no more than this
  float least = 0;         // a block whose extremes ask for a smaller scale is zero
};

// What tensor cores can take of an operand without loss: level * scale of a block, without the second level.
enum class ExactValue : std::uint8_t {
  kNone,  // nothing narrower than the dequantized value
  kE4m3,  // an E4M3 number
  kInt8,  // an integer of at most 127
};

// An element format, a block size and a scale rule.
struct BlockFormat {
  std::string_view name;
  ElementFormat element;
  int block;  // elements that share a scale, unless the caller asks for another size
  ScaleEncoding scale;
  std::string_view summary;  // one line for people
  ScaleRule rule = ScaleRule::kAmax;
  float outer_divisor = 0;  // second-level scale: amax of what shares it / this; 0: none
  float outer_least = 0;    // it is 0 for an amax below this
  int selector_block = 0;   // elements that share a selector byte (which alternative; which exponent); 0: no selectors
  Alternative alternative{};
  OuterScales outer_scales{};                  // what may share a second-level scale; empty: the format has none
  OuterScale own_outer = OuterScale::kTensor;  // what does unless the caller asks for another
  PowerWindow window{};                        // of kPow2Window
  IntegerScales integers{};                    // of kIntegerMultiple
  ExactValue exact = ExactValue::kNone;

  constexpr bool has_outer_scale() const { return outer_divisor != 0; }
  // Whether a second-level scale follows from the least scale that a block could have, instead of its amax.
  constexpr bool outer_of_extremes() const { return rule == ScaleRule::kIntegerMultiple; }
  // Whether the scales of blocks that quantize gives leave out the second level, whatever shares it: times it they
  // would not be exact. A second-level scale of the tensor is left out in every format.
  constexpr bool outer_stays_apart(OuterScale each) const {
    return each == OuterScale::kTensor || rule == ScaleRule::kIntegerMultiple;
  }
  // Whether an amax that is only expected may place the second-level scale, and the options have a tau.
  constexpr bool has_window() const { return window.least < window.largest; }
  // Bytes of a block's scale, with its selectors, as the format stores them.
  constexpr int packed_scale_bytes() const {
    return scale == ScaleEncoding::kFp32 ? 4 : 1 + (scale == ScaleEncoding::kE6m2 ? 3 : 0);
  }
};

// All block formats, in the order in which they are listed.
std::span<const BlockFormat> formats();

// The format called `name`. Throws InputError that lists a near name, or all, if there is none.
const BlockFormat& find_format(std::string_view name);

// The value of a 4-bit code (low nibble of `code`) before the scale.
float code_value(const ElementFormat& element, unsigned code);

// The block and transform sizes that every backend supports.
inline constexpr std::array<int, 4> kBlockSizes{16, 32, 64, 128};

}  // namespace ufp4
