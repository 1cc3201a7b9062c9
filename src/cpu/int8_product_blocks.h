// What the INT8 product kernels of all instruction sets share.
#pragma once

#include <cstdint>

namespace ufp4::cpu {

// A larger tile is computed in parts: its sums stay in the second cache.
inline constexpr std::int64_t kMaxInt8Rows = 128;
inline constexpr std::int64_t kMaxInt8Columns = 192;

}  // namespace ufp4::cpu
