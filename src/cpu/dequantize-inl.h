// From packed codes and scales to values, in the order of memory.
#include "cpu/lanes-inl.h"

#if defined(UFP4_CPU_DEQUANTIZE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef UFP4_CPU_DEQUANTIZE_INL_H_
#undef UFP4_CPU_DEQUANTIZE_INL_H_
#else
#define UFP4_CPU_DEQUANTIZE_INL_H_
#endif

#include <array>
#include <cstring>

#include "cpu/job.h"

HWY_BEFORE_NAMESPACE();
namespace ufp4::cpu::HWY_NAMESPACE {

// The value of the code 0..15 in each lane, by a table: in lanes where sixteen fit, in two tables of eight, or byte by
// byte.
class CodeValues {
 public:
  explicit HWY_INLINE CodeValues(const std::array<float, 16>& values) {
    if constexpr (kLanes >= 8) {
      first_ = hn::LoadU(F32(), values.data());
      second_ = hn::LoadU(F32(), values.data() + (kLanes == 8 ? 8 : 0));
    } else {
      for (std::size_t byte = 0; byte < 4; ++byte) {
        for (std::size_t code = 0; code < 16; ++code) {
          bytes_[byte][code] = static_cast<std::uint8_t>(std::bit_cast<std::uint32_t>(values[code]) >> (8 * byte));
        }
      }
    }
  }

  HWY_INLINE VF operator()(VU codes) const {
    const U32 u;
    const I32 i;
    if constexpr (kLanes >= 16) {
      return hn::TableLookupLanes(first_, hn::IndicesFromVec(F32(), codes));
    } else if constexpr (kLanes == 8) {
      const auto index = hn::IndicesFromVec(F32(), hn::And(codes, hn::Set(u, 7u)));
      const auto upper = hn::RebindMask(F32(), hn::Gt(hn::BitCast(i, codes), hn::Set(i, 7)));
      return hn::IfThenElse(upper, hn::TableLookupLanes(second_, index), hn::TableLookupLanes(first_, index));
    } else {
      const hn::Repartition<std::uint8_t, U32> u8;
      const VU two = hn::Or(codes, hn::ShiftLeft<8>(codes));
      const auto index = hn::BitCast(u8, hn::Or(two, hn::ShiftLeft<16>(two)));
      VU bits = hn::Zero(u);
      for (std::size_t byte = 0; byte < 4; ++byte) {
        const VU found = hn::BitCast(u, hn::TableLookupBytes(hn::LoadDup128(u8, bytes_[byte]), index));
        bits = hn::Or(bits, hn::And(found, hn::Set(u, 0xFFu << (8 * byte))));
      }
      return hn::BitCast(F32(), bits);
    }
  }

 private:
  VF first_;
  VF second_;
  HWY_ALIGN std::uint8_t bytes_[4][16];
};

// The bits of BF16 in the low half of each word, as float_to_bf16.
HWY_INLINE VU to_bf16(VF value) {
  const U32 u;
  const VU bits = hn::BitCast(u, value);
  const VU upper = hn::ShiftRight<16>(bits);
  const VU odd = hn::And(upper, hn::Set(u, 1u));
  const VU rounded = hn::ShiftRight<16>(hn::Add(hn::Add(bits, hn::Set(u, 0x7FFFu)), odd));
  return hn::IfThenElse(hn::RebindMask(u, hn::IsNaN(value)), hn::Or(upper, hn::Set(u, 0x40u)), rounded);
}

// 2^selector for each four of the elements from `first` on, of the selectors of sixteen.
HWY_INLINE VF exponents_of_four(std::uint32_t selectors, std::size_t first, VU byte_shift) {
  const U32 u;
  const VU here = hn::Shr(hn::Set(u, selectors >> (2 * first)), byte_shift);
  return hn::BitCast(F32(), hn::ShiftLeft<23>(hn::Add(hn::And(here, hn::Set(u, 0xFFu)), hn::Set(u, 127u))));
}

template <DType kOutput, Expansion::Selectors kMeaning>
void dequantize_blocks(const Expansion& in) {
  using U64 = hn::ScalableTag<std::uint64_t>;
  const U64 u64;
  const CodeValues value_of[] = {CodeValues(in.code_values[0]), CodeValues(in.code_values[1])};
  const VF outer = hn::Set(F32(), in.outer_scale);
  const VF zero = hn::Set(F32(), in.zero);
  // Lanes 2m and 2m + 1 of a vector take the byte m of the codes.
  const auto byte_shift = hn::ShiftLeft<3>(hn::Iota(u64, 0));
  const VU selector_shift = hn::ShiftLeft<3>(hn::ShiftRight<2>(hn::Iota(U32(), 0)));
  const std::uint8_t* HWY_RESTRICT codes = in.codes;
  const std::uint8_t* HWY_RESTRICT selectors = in.selectors;
  auto* HWY_RESTRICT out = static_cast<std::uint8_t*>(in.out);
  for (std::size_t b = 0; b < in.blocks; ++b) {
    const VF of_block = hn::Set(F32(), in.scales[b]);
    for (int run = 0; run < in.block; run += kRun) {
      std::uint64_t packed = 0;
      std::memcpy(&packed, codes, sizeof packed);
      codes += sizeof packed;
      std::size_t table = 0;
      std::uint32_t exponents = 0;
      if constexpr (kMeaning == Expansion::Selectors::kTable) {
        table = *selectors++ == 0 ? 0 : 1;
      } else if constexpr (kMeaning == Expansion::Selectors::kExponent) {
        std::memcpy(&exponents, selectors, sizeof exponents);
        selectors += sizeof exponents;
      }
      UFP4_UNROLL
      for (std::size_t part = 0; part < kRun / kLanes; ++part) {
        const auto bytes = hn::Shr(hn::Set(u64, packed >> (4 * kLanes * part)), byte_shift);
        const auto nibbles =
            hn::Or(hn::And(bytes, hn::Set(u64, 0xFull)), hn::And(hn::ShiftLeft<28>(bytes), hn::Set(u64, 0xFull << 32)));
        VF scale = of_block;
        if constexpr (kMeaning == Expansion::Selectors::kExponent) {
          scale = hn::Mul(scale, exponents_of_four(exponents, kLanes * part, selector_shift));
        }
        const VF first_level = hn::Add(hn::Mul(value_of[table](hn::BitCast(U32(), nibbles)), scale), zero);
        const VF value = hn::Mul(first_level, outer);
        if constexpr (kOutput == DType::kF32) {
          hn::StoreU(value, F32(), reinterpret_cast<float*>(out));
          out += kLanes * sizeof(float);
        } else {
          const hn::Rebind<std::uint16_t, U32> u16;
          hn::StoreU(hn::TruncateTo(u16, to_bf16(value)), u16, reinterpret_cast<std::uint16_t*>(out));
          out += kLanes * sizeof(std::uint16_t);
        }
      }
    }
  }
}

template <DType kOutput>
void dequantize_to(const Expansion& in) {
  switch (in.meaning) {
    case Expansion::Selectors::kNone: return dequantize_blocks<kOutput, Expansion::Selectors::kNone>(in);
    case Expansion::Selectors::kTable: return dequantize_blocks<kOutput, Expansion::Selectors::kTable>(in);
    case Expansion::Selectors::kExponent: return dequantize_blocks<kOutput, Expansion::Selectors::kExponent>(in);
  }
}

// As Kernels::dequantize.
inline void dequantize(const Expansion& in) {
  if (in.out_dtype == DType::kF32) {
    dequantize_to<DType::kF32>(in);
  } else {
    dequantize_to<DType::kBF16>(in);
  }
}

}  // namespace ufp4::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // UFP4_CPU_DEQUANTIZE_INL_H_
