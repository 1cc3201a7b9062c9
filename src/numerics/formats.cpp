// The format tables: the only place that lists formats.
#include <string>
#include <vector>

#include "numerics/near_name.h"
#include "ufp4/error.h"
#include "ufp4/format.h"

namespace ufp4 {
namespace {

constexpr OuterScales kTensorScale{OuterScale::kTensor};
constexpr OuterScales kAnyOuterScale{OuterScale::kTensor, OuterScale::kRow, OuterScale::k1x128, OuterScale::k128x128};
constexpr OuterScales kSegments{OuterScale::kRow, OuterScale::k1x128, OuterScale::k1x256, OuterScale::k1x512,
                                OuterScale::k1x1024};

constexpr std::array<float, 8> kQuarters{0, 0.25F, 0.5F, 0.75F, 1, 1.25F, 1.5F, 1.75F};
constexpr std::array<float, 8> kIntegers{0, 1, 2, 3, 4, 5, 6, 7};
constexpr std::array<float, 8> kE2m1Levels{0, 0.5F, 1, 1.5F, 2, 3, 4, 6};

constexpr ElementFormat kE1m2{"e1m2", 8, kQuarters, CodeKind::kSignMagnitude};
constexpr ElementFormat kInt4{"int4", 8, kIntegers, CodeKind::kTwosComplement};
constexpr ElementFormat kInt4Full{"int4_full", 8, kIntegers, CodeKind::kFullTwosComplement};
constexpr ElementFormat kE0m3{"e0m3", 8, kIntegers, CodeKind::kSignMagnitude};
constexpr ElementFormat kE2m1{"e2m1", 8, kE2m1Levels, CodeKind::kSignMagnitude};
constexpr ElementFormat kE2m1Max4{"e2m1_max4", 7, kE2m1Levels, CodeKind::kSignMagnitude};
constexpr ElementFormat kE2m1Max3{"e2m1_max3", 6, kE2m1Levels, CodeKind::kSignMagnitude};
constexpr ElementFormat kE2m1Max2{"e2m1_max2", 5, kE2m1Levels, CodeKind::kSignMagnitude};

constexpr ElementFormat kInt4Quarters{"int4_quarters", 8, kQuarters, CodeKind::kTwosComplement};

constexpr std::array kFormats{
    BlockFormat{"e1m2", kE1m2, 16, ScaleEncoding::kFp32, "uniform grid in steps of 0.25; what UFP4 uses"},
    BlockFormat{"int4", kInt4, 16, ScaleEncoding::kFp32,
                "uniform grid -7..7 in two's complement; the same values as e1m2"},
    BlockFormat{"int4_full", kInt4Full, 16, ScaleEncoding::kFp32,
                "all sixteen codes of a uniform grid -8..7 under a signed scale"},
    BlockFormat{"e0m3", kE0m3, 16, ScaleEncoding::kFp32,
                "uniform grid 0..7 in sign and magnitude; the same values as e1m2"},
    BlockFormat{"e2m1", kE2m1, 16, ScaleEncoding::kFp32, "FP4 with non-uniform spacing; the paper's baseline"},
    BlockFormat{"e2m1_max4", kE2m1Max4, 16, ScaleEncoding::kFp32, "e2m1 restricted to levels up to 4"},
    BlockFormat{"e2m1_max3", kE2m1Max3, 16, ScaleEncoding::kFp32, "e2m1 restricted to levels up to 3"},
    BlockFormat{"e2m1_max2", kE2m1Max2, 16, ScaleEncoding::kFp32, "e2m1 restricted to levels up to 2"},
    BlockFormat{.name = "nvfp4",
                .element = kE2m1,
                .block = 16,
                .scale = ScaleEncoding::kE4m3,
                .summary = "e2m1 with E4M3 scales under an FP32 scale for the tensor",
                .rule = ScaleRule::kTensorE4m3,
                .outer_divisor = 2688,
                .outer_scales = kTensorScale},
    BlockFormat{.name = "nvint4",
                .element = kInt4,
                .block = 16,
                .scale = ScaleEncoding::kE4m3,
                .summary = "int4 with E4M3 scales under an FP32 scale for the tensor",
                .rule = ScaleRule::kTensorE4m3Int,
                .outer_divisor = 3136,
                .outer_scales = kTensorScale},
    BlockFormat{.name = "mxfp4",
                .element = kE2m1,
                .block = 32,
                .scale = ScaleEncoding::kE8m0,
                .summary = "e2m1 with power-of-two scales (OCP MX)",
                .rule = ScaleRule::kExponentFloor},
    BlockFormat{.name = "mxint4",
                .element = kInt4Quarters,
                .block = 32,
                .scale = ScaleEncoding::kE8m0,
                .summary = "int4 in steps of 0.25 with power-of-two scales",
                .rule = ScaleRule::kExponentFloorInt},
    BlockFormat{.name = "four_over_six",
                .element = kE2m1,
                .block = 16,
                .scale = ScaleEncoding::kE4m3,
                .summary = "nvfp4 with each block scaled to 6 or to 4, the better",
                .rule = ScaleRule::kBestOfTwo,
                .outer_divisor = 1536,
                .alternative = {kE2m1, 4},
                .outer_scales = kTensorScale},
    BlockFormat{.name = "mixfp4",
                .element = kE2m1,
                .block = 16,
                .scale = ScaleEncoding::kE4m3,
                .summary = "nvfp4 with each block e2m1 or a uniform grid, the better",
                .rule = ScaleRule::kBestOfTwo,
                .outer_divisor = 2688,
                .selector_block = 16,
                .alternative = {kE0m3, 7},
                .outer_scales = kTensorScale},
    BlockFormat{.name = "int4_p2",
                .element = kInt4Full,
                .block = 16,
                .scale = ScaleEncoding::kPow2,
                .summary = "all sixteen codes of a uniform grid under signed powers of two: exact E4M3 operands",
                .rule = ScaleRule::kPow2Window,
                .outer_divisor = 224,  // the largest element times the largest scale: 7 * 2^5
                .outer_least = 0x1p-110F,
                .outer_scales = kAnyOuterScale,
                .window = {.least = -9, .largest = 5},
                .exact = ExactValue::kE4m3},
    BlockFormat{.name = "int4_i4",
                .element = kInt4Full,
                .block = 16,
                .scale = ScaleEncoding::kInt8,
                .summary = "all sixteen codes of a uniform grid under signed integers 1..15: exact INT8 operands",
                .rule = ScaleRule::kIntegerMultiple,
                .outer_divisor = 15,  // the largest integer
                .outer_least = 0x1p-110F,
                .outer_scales = kSegments,
                .own_outer = OuterScale::k1x512,
                .integers = {.lowered = 0.09375F, .most_lowered = 0.5F, .least = 0x1p-120F},
                .exact = ExactValue::kInt8},
    BlockFormat{.name = "hif4",
                .element = kE1m2,
                .block = 64,
                .scale = ScaleEncoding::kE6m2,
                .summary = "HiFloat4: e1m2 with one-bit exponents for 8 and for 4",
                .rule = ScaleRule::kTwoLevelExponent,
                .selector_block = 4},
};

}  // namespace

std::span<const BlockFormat> formats() { return kFormats; }

const BlockFormat& find_format(std::string_view name) {
  std::vector<std::string_view> names;
  for (const BlockFormat& format : kFormats) {
    if (format.name == name) return format;
    names.push_back(format.name);
  }
  throw InputError("unknown format '" + std::string(name) + "'" + name_hint(name, names));
}

float code_value(const ElementFormat& element, unsigned code) {
  code &= 0xFu;
  if (element.code_kind == CodeKind::kSignMagnitude) {
    const float level = element.levels[code & 7u];
    return (code & 8u) != 0 ? -level : level;
  }
  if (code == 8u) return -(element.levels[7] + element.levels[1]);  // one step beyond the largest: -8
  return (code & 8u) != 0 ? -element.levels[16u - code] : element.levels[code];
}

}  // namespace ufp4
