// The kernels of the INT8 product, compiled once for every instruction set that the compiler knows.
#include <cstring>

#include "cpu/int8_product.h"
#include "cpu/int8_product_blocks.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/int8_product_kernels.cpp"  // NOLINT(bugprone-suspicious-include): for each target
#include "hwy/foreach_target.h"                            // IWYU pragma: keep
// clang-format off: the order matters
#include "cpu/lanes-inl.h"
#include "hwy/highway.h"
// clang-format on

#define UFP4_INT8_QUADS 0
#include "cpu/int8_product-inl.h"
#undef UFP4_INT8_QUADS
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX2
#define UFP4_INT8_QUADS 1
#include "cpu/int8_product-inl.h"
#undef UFP4_INT8_QUADS
#endif
