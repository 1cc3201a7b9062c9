// The 4-bit formats, as data. One row of these tables makes a format work in every layer, backend and test.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

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

// How the scale of a block is represented.
enum class ScaleEncoding : std::uint8_t {
  kFp32,  // one level: amax / L (a signed extreme for full two's complement elements), kept in FP32
};

// An element format, a block size and a scale rule.
struct BlockFormat {
  std::string_view name;
  ElementFormat element;
  int block;  // elements that share a scale, unless the caller asks for another size
  ScaleEncoding scale;
  std::string_view summary;  // one line for people
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
