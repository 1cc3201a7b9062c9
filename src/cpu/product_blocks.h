// What the product kernels of all instruction sets share.
#pragma once

#include "cpu/product.h"

namespace ufp4::cpu {

// A tile with more rows is computed in parts: what is packed of A for one part stays in the second cache.
inline constexpr std::int64_t kMaxTileRows = 256;

// A product of no products: 0, or what C holds.
void clear(const Product& product, const ProductTile& tile);

}  // namespace ufp4::cpu
