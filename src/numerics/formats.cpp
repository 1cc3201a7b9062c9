// The format tables: the only place that lists formats.
#include <string>
#include <vector>

#include "numerics/near_name.h"
#include "ufp4/error.h"
#include "ufp4/format.h"

namespace ufp4 {
namespace {

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
    BlockFormat{"nvfp4", kE2m1, 16, ScaleEncoding::kE4m3, "e2m1 with E4M3 scales under an FP32 scale for the tensor",
                ScaleRule::kTensorE4m3, 2688},
    BlockFormat{"nvint4", kInt4, 16, ScaleEncoding::kE4m3, "int4 with E4M3 scales under an FP32 scale for the tensor",
                ScaleRule::kTensorE4m3Int, 3136},
    BlockFormat{"mxfp4", kE2m1, 32, ScaleEncoding::kE8m0, "e2m1 with power-of-two scales (OCP MX)",
                ScaleRule::kExponentFloor},
    BlockFormat{"mxint4", kInt4Quarters, 32, ScaleEncoding::kE8m0, "int4 in steps of 0.25 with power-of-two scales",
                ScaleRule::kExponentFloorInt},
    BlockFormat{"four_over_six",
                kE2m1,
                16,
                ScaleEncoding::kE4m3,
                "nvfp4 with each block scaled to 6 or to 4, the better",
                ScaleRule::kBestOfTwo,
                1536,
                0,
                {kE2m1, 4}},
    BlockFormat{"mixfp4",
                kE2m1,
                16,
                ScaleEncoding::kE4m3,
                "nvfp4 with each block e2m1 or a uniform grid, the better",
                ScaleRule::kBestOfTwo,
                2688,
                16,
                {kE0m3, 7}},
    BlockFormat{"int4_p2", kInt4Full, 16, ScaleEncoding::kPow2,
                "all sixteen codes of a uniform grid under signed powers of two: exact E4M3 operands",
                ScaleRule::kPow2Window, 224},
    BlockFormat{"hif4", kE1m2, 64, ScaleEncoding::kE6m2, "HiFloat4: e1m2 with one-bit exponents for 8 and for 4",
                ScaleRule::kTwoLevelExponent, 0, 4},
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
