// The INT8 product kernel for one way to multiply. Included once or twice for each instruction set, and therefore
// without a guard. UFP4_INT8_QUADS says whether an instruction multiplies and adds four pairs of bytes; without one,
// bytes are widened and pairs of 16 bits multiplied.
//
// Both operands are packed: a panel holds, for as many rows of the operand as a vector has lanes, one vector of words a
// step. A word is four bytes of a row, or two in 16 bits each. The instruction for quads takes unsigned bytes on one
// side: those of a get 128 more, and sums begin at what that adds, negative. Integers may wrap on the way; the end is
// exact, since the sum of a piece fits.

#if UFP4_INT8_QUADS
#if HWY_TARGET == HWY_AVX3
HWY_PUSH_ATTRIBUTES(HWY_TARGET_STR ",avx512vnni")
#else
HWY_PUSH_ATTRIBUTES(HWY_TARGET_STR ",avxvnni")
#endif
#define UFP4_INT8_NAMESPACE int8_quads
#else
HWY_BEFORE_NAMESPACE();
#define UFP4_INT8_NAMESPACE int8_pairs
#endif
namespace ufp4::cpu::HWY_NAMESPACE::UFP4_INT8_NAMESPACE {

// The sums of kRows x kVectors vectors fill the registers, with room for a row of b and an element of a.
inline constexpr std::size_t kRows = kLanes == 16 ? 8 : 4;
inline constexpr std::size_t kVectors = 3;
inline constexpr std::size_t kSteps = 256;
inline constexpr std::size_t kBytesOfWord = UFP4_INT8_QUADS ? 4 : 2;
inline constexpr std::size_t kChunk =
    kSteps * kBytesOfWord;                              // elements of the contraction axis that are packed at once
inline constexpr std::size_t kPanel = kSteps * kLanes;  // words
inline constexpr std::size_t kWidth = static_cast<std::size_t>(kMaxInt8Columns);
static_assert(kLanes % kRows == 0 && kMaxInt8Rows % kLanes == 0 && kMaxInt8Columns % (kVectors * kLanes) == 0);

// Integer sums of a piece of the contraction axis that is not over, and of the pieces before in FP32.
struct Sums {
  HWY_ALIGN std::int32_t open[kMaxInt8Rows * kWidth];
  HWY_ALIGN float y[kMaxInt8Rows * kWidth];
};

// kLanes words of a row.
HWY_INLINE VU load_row_words(const std::int8_t* from) {
#if UFP4_INT8_QUADS
  return load_words(reinterpret_cast<const std::uint8_t*>(from));
#else
  const hn::Repartition<std::int16_t, U32> i16;
  const hn::Rebind<std::int8_t, decltype(i16)> i8;
  return hn::BitCast(U32(), hn::PromoteTo(i16, hn::LoadU(i8, from)));
#endif
}

// One panel of an operand's rows `first` .., elements k .. k + count - 1. Lanes beyond `rows` become 0, and so do words
// beyond the last one of the chunk, up to a whole vector.
inline void pack(const Int8Operand& operand, std::int64_t first, std::size_t rows, std::int64_t k, std::size_t count,
                 bool biased, std::uint32_t* HWY_RESTRICT to) {
  constexpr std::size_t kBytes = kLanes * kBytesOfWord;
  const VU bias = hn::Set(U32(), biased && UFP4_INT8_QUADS ? 0x80808080U : 0U);
  for (std::size_t begin = 0; begin < count; begin += kBytes) {
    const std::size_t here = HWY_MIN(kBytes, count - begin);
    VU v[kLanes];
    for (std::size_t i = 0; i < kLanes; ++i) {
      if (i >= rows) {
        v[i] = hn::Zero(U32());
        continue;
      }
      const std::int8_t* from =
          operand.values + (first + static_cast<std::int64_t>(i)) * operand.row_stride + k + begin;
      if (here == kBytes) {
        v[i] = load_row_words(from);
      } else {
        std::int8_t edge[kBytes] = {};
        std::memcpy(edge, from, here);
        v[i] = load_row_words(edge);
      }
    }
    rotate_index<kLanes, log2(kLanes)>(v);
    const std::size_t words = here / kBytesOfWord;
    for (std::size_t i = 0; i < words; ++i) {
      hn::Store(hn::Xor(v[i], bias), U32(), to + (begin / kBytesOfWord + i) * kLanes);
    }
  }
}

// sum + the products of the words' elements. Some instruction sets keep half of them in `rest`.
HWY_INLINE VI multiply_add(VU a, VU b, VI sum, VI& rest) {
#if UFP4_INT8_QUADS
  static_cast<void>(rest);
#if HWY_TARGET == HWY_AVX3
  return VI{_mm512_dpbusd_epi32(sum.raw, a.raw, b.raw)};
#else
  return VI{_mm256_dpbusd_avx_epi32(sum.raw, a.raw, b.raw)};
#endif
#else
  const hn::Repartition<std::int16_t, U32> i16;
  return hn::ReorderWidenMulAccumulate(I32(), hn::BitCast(i16, a), hn::BitCast(i16, b), sum, rest);
#endif
}

// What sums of a panel's columns begin with.
HWY_INLINE VI first_sum(const std::uint32_t* HWY_RESTRICT b, std::size_t steps) {
  VI sum = hn::Zero(I32());
#if UFP4_INT8_QUADS
  VI rest = sum;
  const VU bias = hn::Set(U32(), 0x80808080U);
  for (std::size_t step = 0; step < steps; ++step) {
    sum = multiply_add(bias, hn::Load(U32(), b + step * kLanes), sum, rest);
  }
#else
  static_cast<void>(b);
  static_cast<void>(steps);
#endif
  return hn::Sub(hn::Zero(I32()), sum);
}

// What a block of sums does besides: whether its piece began in an earlier chunk, whether it ends in this one, and then
// the scales of its rows and columns.
struct Ends {
  bool begun, ends;
  const float* row_scales;
  const float* column_scales;
};

// kRows x kCount vectors of sums, from word `at` of the tile's on.
template <std::size_t kCount>
void multiply_block(const std::uint32_t* HWY_RESTRICT a, const std::uint32_t* HWY_RESTRICT b,
                    const std::int32_t* HWY_RESTRICT first, std::size_t steps, const Ends& ends, Sums& all,
                    std::size_t at) {
  VI sums[kRows][kCount];
  VI rest[kRows][kCount];
  UFP4_UNROLL
  for (std::size_t i = 0; i < kRows; ++i) {
    UFP4_UNROLL
    for (std::size_t v = 0; v < kCount; ++v) {
      sums[i][v] = hn::Load(I32(), first + v * kLanes);
      rest[i][v] = hn::Zero(I32());
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
      for (std::size_t v = 0; v < kCount; ++v) sums[i][v] = multiply_add(element, row[v], sums[i][v], rest[i][v]);
    }
    a += kLanes;
    b += kLanes;
  }
  UFP4_UNROLL
  for (std::size_t i = 0; i < kRows; ++i) {
    UFP4_UNROLL
    for (std::size_t v = 0; v < kCount; ++v) {
      const std::size_t place = at + i * kWidth + v * kLanes;
      VI sum = sums[i][v];
#if !UFP4_INT8_QUADS
      sum = hn::RearrangeToOddPlusEven(sum, rest[i][v]);
#endif
      if (ends.begun) sum = hn::Add(sum, hn::Load(I32(), all.open + place));
      if (!ends.ends) {
        hn::Store(sum, I32(), all.open + place);
        continue;
      }
      const VF scale = hn::Mul(hn::Set(F32(), ends.row_scales[i]), hn::Load(F32(), ends.column_scales + v * kLanes));
      const VF term = hn::Mul(hn::ConvertTo(F32(), sum), scale);
      hn::Store(hn::Add(hn::Load(F32(), all.y + place), term), F32(), all.y + place);
    }
  }
}

// BF16 in the lower half of each lane.
HWY_INLINE VU round_to_bf16(VF y) {
  const VU bits = hn::BitCast(U32(), y);
  const VU odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(U32(), 1));
  const VU rounded = hn::ShiftRight<16>(hn::Add(bits, hn::Add(odd, hn::Set(U32(), 0x7FFF))));
  const VU nan = hn::Or(hn::ShiftRight<16>(bits), hn::Set(U32(), 0x40));
  return hn::IfThenElse(hn::RebindMask(U32(), hn::IsNaN(y)), nan, rounded);
}

inline void store_row(const Int8Product& product, const float* HWY_RESTRICT y, std::int64_t row, std::int64_t column,
                      std::size_t columns) {
  const std::int64_t at = row * product.out_row_stride + column;
  const hn::Rebind<std::uint16_t, U32> u16;
  for (std::size_t i = 0; i < columns; i += kLanes) {
    const VF values = hn::Load(F32(), y + i);
    const std::size_t here = HWY_MIN(kLanes, columns - i);
    if (product.result == Int8Result::kBf16) {
      HWY_ALIGN std::uint16_t narrow[kLanes];
      hn::Store(hn::TruncateTo(u16, round_to_bf16(values)), u16, narrow);
      std::memcpy(static_cast<std::uint16_t*>(product.out) + at + i, narrow, here * sizeof(std::uint16_t));
      continue;
    }
    float* to = static_cast<float*>(product.out) + at + i;
    const bool add = product.result == Int8Result::kF32Added;
    if (here == kLanes) {
      hn::StoreU(add ? hn::Add(hn::LoadU(F32(), to), values) : values, F32(), to);
      continue;
    }
    for (std::size_t lane = 0; lane < here; ++lane) to[lane] = add ? to[lane] + y[i + lane] : y[i + lane];
  }
}

// As Int8ProductKernel::multiply, for tiles of no more than kMaxInt8Rows and kMaxInt8Columns.
inline void multiply_tile(const Int8Product& product, const ProductTile& tile) {
  HWY_ALIGN std::uint32_t a[kMaxInt8Rows / kLanes * kPanel];
  HWY_ALIGN std::uint32_t b[kVectors * kPanel];
  HWY_ALIGN std::int32_t first[kVectors * kLanes];
  HWY_ALIGN float column_scales[kVectors * kLanes];
  HWY_ALIGN float row_scales[kMaxInt8Rows];
  Sums sums;
  const auto rows = static_cast<std::size_t>(tile.last_row - tile.first_row);
  const auto columns = static_cast<std::size_t>(tile.last_column - tile.first_column);
  const auto piece = static_cast<std::size_t>(piece_of(product));
  const auto depth = static_cast<std::size_t>(product.k);
  const VF zero = hn::Zero(F32());
  for (std::size_t i = 0; i < kMaxInt8Rows * kWidth; i += kLanes) hn::Store(zero, F32(), sums.y + i);
  std::size_t count = 0;
  for (std::size_t k = 0; k < depth; k += count) {
    const std::size_t begin = k / piece * piece;
    const std::size_t end = HWY_MIN(depth, begin + piece);
    count = HWY_MIN(kChunk, end - k);
    const std::size_t steps = count / kBytesOfWord;
    const std::int64_t segment = product.segment == 0 ? 0 : static_cast<std::int64_t>(k) / product.segment;
    Ends ends{k != begin, k + count == end, nullptr, column_scales};
    for (std::size_t row = 0; row < rows; row += kLanes) {
      pack(product.a, tile.first_row + static_cast<std::int64_t>(row), rows - row, static_cast<std::int64_t>(k), count,
           true, a + row * kSteps);
    }
    for (std::size_t row = 0; row < kMaxInt8Rows; ++row) {
      const std::int64_t in_a = tile.first_row + static_cast<std::int64_t>(row);
      row_scales[row] =
          row >= rows ? 0
                      : product.a.scales[in_a * product.a.scale_row_stride + segment * product.a.scale_segment_stride];
    }
    for (std::size_t column = 0; column < columns; column += kVectors * kLanes) {
      const std::size_t here = HWY_MIN(columns - column, kVectors * kLanes);
      const std::int64_t in_b = tile.first_column + static_cast<std::int64_t>(column);
      const std::size_t vectors = (here + kLanes - 1) / kLanes;
      for (std::size_t v = 0; v < vectors; ++v) {
        std::uint32_t* panel = b + v * kPanel;
        pack(product.b, in_b + static_cast<std::int64_t>(v * kLanes), here - v * kLanes, static_cast<std::int64_t>(k),
             count, false, panel);
        hn::Store(first_sum(panel, steps), I32(), first + v * kLanes);
      }
      for (std::size_t i = 0; i < kVectors * kLanes; ++i) {
        column_scales[i] = i >= here
                               ? 0
                               : product.b.scales[(in_b + static_cast<std::int64_t>(i)) * product.b.scale_row_stride +
                                                  segment * product.b.scale_segment_stride];
      }
      const auto block = vectors == 1 ? multiply_block<1> : vectors == 2 ? multiply_block<2> : multiply_block<kVectors>;
      for (std::size_t row = 0; row < rows; row += kRows) {
        ends.row_scales = row_scales + row;
        block(a + row / kLanes * kPanel + row % kLanes, b, first, steps, ends, sums, row * kWidth + column);
      }
    }
  }
  for (std::size_t row = 0; row < rows; ++row) {
    store_row(product, sums.y + row * kWidth, tile.first_row + static_cast<std::int64_t>(row), tile.first_column,
              columns);
  }
}

void multiply(const Int8Product& product, const ProductTile& tile) {
  if (product.k == 0 && product.result == Int8Result::kF32Added) return;
  for (ProductTile part = tile; part.first_row < tile.last_row; part.first_row = part.last_row) {
    part.last_row = HWY_MIN(tile.last_row, part.first_row + kMaxInt8Rows);
    for (part.first_column = tile.first_column; part.first_column < tile.last_column;
         part.first_column = part.last_column) {
      part.last_column = HWY_MIN(tile.last_column, part.first_column + kMaxInt8Columns);
      multiply_tile(product, part);
    }
  }
}

}  // namespace ufp4::cpu::HWY_NAMESPACE::UFP4_INT8_NAMESPACE
#if UFP4_INT8_QUADS
HWY_POP_ATTRIBUTES
#else
HWY_AFTER_NAMESPACE();
#endif
#undef UFP4_INT8_NAMESPACE
