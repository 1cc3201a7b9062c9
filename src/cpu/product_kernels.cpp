// The kernels of the BF16 product, compiled once for every instruction set that the compiler knows.
#include <cstring>

#include "cpu/product_blocks.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/product_kernels.cpp"  // NOLINT(bugprone-suspicious-include): again for each target
#include "hwy/foreach_target.h"                       // IWYU pragma: keep
// clang-format off: the order matters
#include "cpu/lanes-inl.h"
#include "hwy/highway.h"
// clang-format on

#define UFP4_PRODUCT_PAIRS 0
#include "cpu/product-inl.h"
#undef UFP4_PRODUCT_PAIRS
#if HWY_TARGET == HWY_AVX3
#define UFP4_PRODUCT_PAIRS 1
#include "cpu/product-inl.h"
#undef UFP4_PRODUCT_PAIRS
#endif
