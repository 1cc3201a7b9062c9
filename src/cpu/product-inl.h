// The product kernel for one way to multiply. Included once or twice for each instruction set, and therefore without a
// guard. UFP4_PRODUCT_PAIRS says whether an instruction multiplies and adds pairs of BF16; without one, BF16 is widened
// to FP32.
//
// Both operands are packed: a panel holds, for as many rows of the operand as a vector has lanes, one vector of words a
// step. A word is an FP32 number of one k, or the BF16 numbers of two.

#if UFP4_PRODUCT_PAIRS
// Highway has no target with this instruction in all versions that are in use.
HWY_PUSH_ATTRIBUTES(HWY_TARGET_STR ",avx512bf16")
#define UFP4_PRODUCT_NAMESPACE pairs
#else
HWY_BEFORE_NAMESPACE();
#define UFP4_PRODUCT_NAMESPACE widened
#endif
namespace ufp4::cpu::HWY_NAMESPACE::UFP4_PRODUCT_NAMESPACE {

// The sums of kRows x kVectors vectors fill the registers, with room for a row of B and an element of A.
inline constexpr std::size_t kRows = kLanes == 16 ? 8 : 4;
inline constexpr std::size_t kVectors = 3;
// The panels of B that a block of sums needs stay in the first cache.
inline constexpr std::size_t kSteps = 128;
inline constexpr std::size_t kStepsOfPair = UFP4_PRODUCT_PAIRS ? 1 : 2;
inline constexpr std::size_t kPairs = kSteps / kStepsOfPair;
inline constexpr std::size_t kPanel = kSteps * kLanes;  // words
static_assert(kLanes % kRows == 0 && kMaxTileRows % kLanes == 0);

// Packs words of two BF16, the number of the first k in the lower half. The instruction adds the product of the upper
// halves first.
HWY_INLINE void store_pair(VU word, std::uint32_t* HWY_RESTRICT to) {
#if UFP4_PRODUCT_PAIRS
  hn::Store(hn::RotateRight<16>(word), U32(), to);
#else
  hn::Store(hn::ShiftLeft<16>(word), U32(), to);
  hn::Store(hn::And(word, hn::Set(U32(), 0xFFFF0000U)), U32(), to + kLanes);
#endif
}

HWY_INLINE VF multiply_add(VU a, VU b, VF sum) {
#if UFP4_PRODUCT_PAIRS
  return VF{_mm512_dpbf16_ps(sum.raw, reinterpret_cast<__m512bh>(a.raw), reinterpret_cast<__m512bh>(b.raw))};
#else
  return hn::MulAdd(hn::BitCast(F32(), a), hn::BitCast(F32(), b), sum);
#endif
}

// Stored rows `first` .. of an operand whose columns are contracted, columns k .. k + count - 1.
inline void pack_columns(const ProductOperand& operand, std::int64_t first, std::size_t rows, std::int64_t k,
                         std::size_t count, std::uint32_t* HWY_RESTRICT to) {
  for (std::size_t begin = 0; begin < count; begin += 2 * kLanes) {
    const std::size_t here = HWY_MIN(2 * kLanes, count - begin);
    VU v[kLanes];
    for (std::size_t i = 0; i < kLanes; ++i) {
      if (i >= rows) {
        v[i] = hn::Zero(U32());
        continue;
      }
      const std::uint16_t* from =
          operand.data + (first + static_cast<std::int64_t>(i)) * operand.row_stride + k + begin;
      if (here == 2 * kLanes) {
        v[i] = load_words(reinterpret_cast<const std::uint8_t*>(from));
      } else {
        std::uint8_t edge[4 * kLanes] = {};
        std::memcpy(edge, from, here * sizeof(std::uint16_t));
        v[i] = load_words(edge);
      }
    }
    rotate_index<kLanes, log2(kLanes)>(v);
    const std::size_t pairs = (here + 1) / 2;
    for (std::size_t i = 0; i < pairs; ++i) store_pair(v[i], to + (begin / 2 + i) * kStepsOfPair * kLanes);
  }
}

HWY_INLINE VU load_row(const std::uint16_t* from, std::size_t lanes) {
  const hn::Rebind<std::uint16_t, U32> u16;
  if (lanes == kLanes) return hn::PromoteTo(U32(), hn::LoadU(u16, from));
  std::uint16_t edge[kLanes] = {};
  std::memcpy(edge, from, lanes * sizeof(std::uint16_t));
  return hn::PromoteTo(U32(), hn::LoadU(u16, edge));
}

// Stored columns `first` .. of an operand whose rows are contracted, rows k .. k + count - 1.
inline void pack_rows(const ProductOperand& operand, std::int64_t first, std::size_t columns, std::int64_t k,
                      std::size_t count, std::uint32_t* HWY_RESTRICT to) {
  const std::uint16_t* from = operand.data + k * operand.row_stride + first;
  for (std::size_t i = 0; i < count; i += 2, from += 2 * operand.row_stride, to += kStepsOfPair * kLanes) {
    VU word = load_row(from, columns);
    if (i + 1 < count) word = hn::Or(word, hn::ShiftLeft<16>(load_row(from + operand.row_stride, columns)));
    store_pair(word, to);
  }
}

// One panel. Lanes beyond `lanes` and the second number of half a pair become 0.
inline void pack(const ProductOperand& operand, std::int64_t first, std::int64_t lanes, std::int64_t k,
                 std::size_t count, std::uint32_t* HWY_RESTRICT to) {
  const std::size_t here = HWY_MIN(kLanes, static_cast<std::size_t>(lanes));
  const bool rows = operand.contracted == ProductOperand::Contracted::kRows;
  (rows ? pack_rows : pack_columns)(operand, first, here, k, count, to);
}

// kRows x kCount vectors of C at `c`.
template <std::size_t kCount>
void multiply_block(const std::uint32_t* HWY_RESTRICT a, const std::uint32_t* HWY_RESTRICT b, std::size_t steps,
                    bool add, float* HWY_RESTRICT c, std::int64_t stride) {
  VF sums[kRows][kCount];
  UFP4_UNROLL
  for (std::size_t i = 0; i < kRows; ++i) {
    UFP4_UNROLL
    for (std::size_t v = 0; v < kCount; ++v) {
      sums[i][v] = add ? hn::LoadU(F32(), c + static_cast<std::int64_t>(i) * stride + v * kLanes) : hn::Zero(F32());
    }
  }
  for (std::size_t step = 0; step < steps; ++step) {
    VU row[kCount];
    UFP4_UNROLL
    for (std::size_t v = 0; v < kCount; ++v) row[v] = hn::Load(U32(), b + v * kPanel);
    UFP4_UNROLL
    for (std::size_t i = 0; i < kRows; ++i) {
      const VU element = hn::Set(U32(), a[i]);
      UFP4_UNROLL
      for (std::size_t v = 0; v < kCount; ++v) sums[i][v] = multiply_add(element, row[v], sums[i][v]);
    }
    a += kLanes;
    b += kLanes;
  }
  UFP4_UNROLL
  for (std::size_t i = 0; i < kRows; ++i) {
    UFP4_UNROLL
    for (std::size_t v = 0; v < kCount; ++v) {
      hn::StoreU(sums[i][v], F32(), c + static_cast<std::int64_t>(i) * stride + v * kLanes);
    }
  }
}

// The same where C has fewer rows and columns than the block.
template <std::size_t kCount>
void multiply_edge(const std::uint32_t* HWY_RESTRICT a, const std::uint32_t* HWY_RESTRICT b, std::size_t steps,
                   bool add, float* HWY_RESTRICT c, std::int64_t stride, std::int64_t rows, std::int64_t columns) {
  constexpr std::int64_t kWidth = kCount * kLanes;
  const std::size_t bytes = static_cast<std::size_t>(columns) * sizeof(float);
  float edge[kRows * kWidth] = {};
  if (add) {
    for (std::int64_t i = 0; i < rows; ++i) std::memcpy(edge + i * kWidth, c + i * stride, bytes);
  }
  multiply_block<kCount>(a, b, steps, add, edge, kWidth);
  for (std::int64_t i = 0; i < rows; ++i) std::memcpy(c + i * stride, edge + i * kWidth, bytes);
}

// All rows of a tile, `columns` of C from `c` on, no more than kCount vectors.
template <std::size_t kCount>
void multiply_columns(const std::uint32_t* HWY_RESTRICT a, const std::uint32_t* HWY_RESTRICT b, std::size_t steps,
                      bool add, float* HWY_RESTRICT c, std::int64_t stride, std::int64_t rows, std::int64_t columns) {
  const bool whole = columns == static_cast<std::int64_t>(kCount * kLanes);
  for (std::int64_t i = 0; i < rows; i += std::int64_t{kRows}, c += std::int64_t{kRows} * stride) {
    const auto row = static_cast<std::size_t>(i);
    const std::uint32_t* at = a + row / kLanes * kPanel + row % kLanes;
    if (whole && rows - i >= static_cast<std::int64_t>(kRows)) {
      multiply_block<kCount>(at, b, steps, add, c, stride);
    } else {
      multiply_edge<kCount>(at, b, steps, add, c, stride, HWY_MIN(rows - i, std::int64_t{kRows}), columns);
    }
  }
}

// As ProductKernel::multiply, for tiles of no more than kMaxTileRows rows; k may not be 0.
inline void multiply_rows(const Product& product, const ProductTile& tile) {
  HWY_ALIGN std::uint32_t a[kMaxTileRows / kLanes * kPanel];
  HWY_ALIGN std::uint32_t b[kVectors * kPanel];
  const std::int64_t rows = tile.last_row - tile.first_row;
  for (std::int64_t k = 0; k < product.k; k += 2 * kPairs) {
    const std::size_t count = HWY_MIN(2 * kPairs, static_cast<std::size_t>(product.k - k));
    const std::size_t steps = (count + 1) / 2 * kStepsOfPair;
    const bool add = product.add || k != 0;
    for (std::int64_t row = 0; row < rows; row += kLanes) {
      pack(product.a, tile.first_row + row, rows - row, k, count, a + static_cast<std::size_t>(row) * kSteps);
    }
    for (std::int64_t column = tile.first_column; column < tile.last_column; column += kVectors * kLanes) {
      const std::int64_t columns = HWY_MIN(tile.last_column - column, std::int64_t{kVectors * kLanes});
      for (std::int64_t done = 0; done < columns; done += kLanes) {
        pack(product.b, column + done, columns - done, k, count, b + static_cast<std::size_t>(done) * kSteps);
      }
      float* c = product.c + tile.first_row * product.c_row_stride + column;
      const auto multiply = columns <= std::int64_t{kLanes}       ? multiply_columns<1>
                            : columns <= std::int64_t{2 * kLanes} ? multiply_columns<2>
                                                                  : multiply_columns<kVectors>;
      multiply(a, b, steps, add, c, product.c_row_stride, rows, columns);
    }
  }
}

void multiply(const Product& product, const ProductTile& tile) {
  if (product.k == 0) return clear(product, tile);
  for (ProductTile part = tile; part.first_row < tile.last_row; part.first_row = part.last_row) {
    part.last_row = HWY_MIN(tile.last_row, part.first_row + kMaxTileRows);
    multiply_rows(product, part);
  }
}

}  // namespace ufp4::cpu::HWY_NAMESPACE::UFP4_PRODUCT_NAMESPACE
#if UFP4_PRODUCT_PAIRS
HWY_POP_ATTRIBUTES
#else
HWY_AFTER_NAMESPACE();
#endif
#undef UFP4_PRODUCT_NAMESPACE
