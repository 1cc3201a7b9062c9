// What shares a second-level scale.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace ufp4 {

// The values of the operand that share a second-level scale, for formats that let the caller choose.
enum class OuterScale : std::uint8_t { kTensor, kRow, k1x128, k128x128 };

inline constexpr std::array kOuterScales{OuterScale::kTensor, OuterScale::kRow, OuterScale::k1x128,
                                         OuterScale::k128x128};

constexpr std::string_view name_of(OuterScale outer) {
  switch (outer) {
    case OuterScale::kTensor: return "tensor";
    case OuterScale::kRow: return "row";
    case OuterScale::k1x128: return "1x128";
    case OuterScale::k128x128: return "128x128";
  }
  return "?";
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
