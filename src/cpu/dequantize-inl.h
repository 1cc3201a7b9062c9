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

template <DType kOutput>
HWY_INLINE void dequantize_blocks(const std::array<float, 16>& code_values, const std::uint8_t* HWY_RESTRICT codes,
                                  const float* HWY_RESTRICT scales, float global_scale, int block, std::size_t blocks,
                                  std::uint8_t* HWY_RESTRICT out) {
  using U64 = hn::ScalableTag<std::uint64_t>;
  const U64 u64;
  const CodeValues value_of(code_values);
  const VF global = hn::Set(F32(), global_scale);
  // Lanes 2m and 2m + 1 of a vector take the byte m of the codes.
  const auto byte_shift = hn::ShiftLeft<3>(hn::Iota(u64, 0));
  for (std::size_t b = 0; b < blocks; ++b) {
    const VF scale = hn::Set(F32(), scales[b]);
    for (int run = 0; run < block; run += kRun) {
      std::uint64_t packed = 0;
      std::memcpy(&packed, codes, sizeof packed);
      codes += sizeof packed;
      UFP4_UNROLL
      for (std::size_t part = 0; part < kRun / kLanes; ++part) {
        const auto bytes = hn::Shr(hn::Set(u64, packed >> (4 * kLanes * part)), byte_shift);
        const auto nibbles =
            hn::Or(hn::And(bytes, hn::Set(u64, 0xFull)), hn::And(hn::ShiftLeft<28>(bytes), hn::Set(u64, 0xFull << 32)));
        const VF value = hn::Mul(hn::Mul(value_of(hn::BitCast(U32(), nibbles)), scale), global);
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

// As Kernels::dequantize.
void dequantize(const std::array<float, 16>& code_values, const std::uint8_t* codes, const float* scales,
                float global_scale, int block, std::size_t blocks, void* out, DType out_dtype) {
  if (out_dtype == DType::kF32) {
    dequantize_blocks<DType::kF32>(code_values, codes, scales, global_scale, block, blocks,
                                   static_cast<std::uint8_t*>(out));
  } else {
    dequantize_blocks<DType::kBF16>(code_values, codes, scales, global_scale, block, blocks,
                                    static_cast<std::uint8_t*>(out));
  }
}

}  // namespace ufp4::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // UFP4_CPU_DEQUANTIZE_INL_H_
