// What shares a second-level scale.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace ufp4 {

// The values of the operand that share a second-level scale, for formats that let the caller choose: all, those of a
// row, a tile, or a segment of a row. kOwn: what the format itself has (BlockFormat::own_outer).
enum class OuterScale : std::uint8_t { kTensor, kRow, k1x128, k128x128, k1x256, k1x512, k1x1024, kOwn };

// All but kOwn, which stands for one of them.
inline constexpr std::array kOuterScales{OuterScale::kTensor,  OuterScale::kRow,   OuterScale::k1x128,
                                         OuterScale::k128x128, OuterScale::k1x256, OuterScale::k1x512,
                                         OuterScale::k1x1024};

constexpr std::string_view name_of(OuterScale outer) {
  switch (outer) {
    case OuterScale::kTensor: return "tensor";
    case OuterScale::kRow: return "row";
    case OuterScale::k1x128: return "1x128";
    case OuterScale::k128x128: return "128x128";
    case OuterScale::k1x256: return "1x256";
    case OuterScale::k1x512: return "1x512";
    case OuterScale::k1x1024: return "1x1024";
    case OuterScale::kOwn: return "own";
  }
  return "?";
}

// Columns of a tile or segment; 0 for what is as long as the operand.
constexpr std::int64_t columns_of(OuterScale outer) {
  switch (outer) {
    case OuterScale::k1x128:
    case OuterScale::k128x128: return 128;
    case OuterScale::k1x256: return 256;
    case OuterScale::k1x512: return 512;
    case OuterScale::k1x1024: return 1024;
    default: return 0;
  }
}

// The one of that name. Throws InputError that lists the names.
OuterScale find_outer_scale(std::string_view name);

// Some of them, as a format allows them.
class OuterScales {
 public:
  constexpr OuterScales() = default;
  template <typename... All>
  constexpr explicit OuterScales(All... all) : bits_(static_cast<std::uint8_t>((bit(all) | ...))) {}

  constexpr bool has(OuterScale outer) const { return (bits_ & bit(outer)) != 0; }
  constexpr bool empty() const { return bits_ == 0; }

 private:
  static constexpr unsigned bit(OuterScale outer) { return 1u << static_cast<unsigned>(outer); }

  std::uint8_t bits_ = 0;
};

}  // namespace ufp4
