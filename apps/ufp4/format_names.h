// How the program spells the enumerations of the formats.
#pragma once

#include <string_view>

#include "ufp4/format.h"

namespace ufp4::app {

constexpr std::string_view name_of(ScaleEncoding scale) {
  switch (scale) {
    case ScaleEncoding::kFp32: return "fp32";
    case ScaleEncoding::kE4m3: return "e4m3";
    case ScaleEncoding::kE8m0: return "e8m0";
    case ScaleEncoding::kE6m2: return "e6m2";
    case ScaleEncoding::kPow2: return "pow2";
    case ScaleEncoding::kInt8: return "int8";
  }
  return "?";
}

constexpr std::string_view name_of(CodeKind kind) {
  switch (kind) {
    case CodeKind::kSignMagnitude: return "sign-magnitude";
    case CodeKind::kTwosComplement: return "two's complement";
    case CodeKind::kFullTwosComplement: return "two's complement with -8";
  }
  return "?";
}

}  // namespace ufp4::app
