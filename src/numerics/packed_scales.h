// The scales of blocks, and their selectors, as a format stores them: BlockFormat::packed_scale_bytes() bytes a block.
//
//   FP32   the number, little-endian
//   E4M3   its code; in the sign bit, which a scale leaves idle, the selector of formats that choose a grid a block
//   E8M0   its code
//   +-2^k  the E4M3 code of that number
//   +-m    that number, in two's complement; a NaN there is not
//   E6M2   its code (exponent + 48 in the upper six bits), a byte with the one-bit exponents of each 8 elements and two
//          with those of each 4, the lowest bit first
//
// A NaN is 0xFF in E8M0 and E6M2 and 0x7F in E4M3.
#pragma once

#include <cstddef>
#include <cstdint>

#include "ufp4/format.h"

namespace ufp4 {

// Packs the scales of `blocks` blocks in a row; `selectors` as in Quantized, null for formats without.
void pack_scales(const BlockFormat& format, const float* scales, const std::uint8_t* selectors, std::size_t blocks,
                 std::uint8_t* packed);

// The inverse.
void unpack_scales(const BlockFormat& format, const std::uint8_t* packed, std::size_t blocks, float* scales,
                   std::uint8_t* selectors);

// Level * scale of blocks in a row, as integers: for formats with ExactValue::kInt8.
void integers_of(const std::uint8_t* codes, const float* scales, std::int64_t blocks, int block, std::int8_t* out);

}  // namespace ufp4
