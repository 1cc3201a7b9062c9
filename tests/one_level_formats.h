// The formats whose blocks have one FP32 scale, amax / L: what the tests of that rule go through.
#pragma once

#include <algorithm>
#include <iterator>
#include <vector>

#include "ufp4/format.h"

namespace ufp4 {

inline const std::vector<BlockFormat>& one_level_formats() {
  static const std::vector<BlockFormat> list = [] {
    std::vector<BlockFormat> chosen;
    std::copy_if(formats().begin(), formats().end(), std::back_inserter(chosen),
                 [](const BlockFormat& format) { return format.rule == ScaleRule::kAmax; });
    return chosen;
  }();
  return list;
}

}  // namespace ufp4
