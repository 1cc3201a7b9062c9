// Compiled once for every instruction set that the compiler knows.
#include "torch/cpu_layers.h"

#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "torch/cpu_layers.cpp"  // NOLINT(bugprone-suspicious-include): this file, for each target
#include "hwy/foreach_target.h"                    // IWYU pragma: keep
// clang-format off: the order matters
#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace ufp4::cpu_layers::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// Calls body(tag, i) for i = 0, N, 2N, .. with vectors of FP32 and the rest one value at a time.
template <typename Body>
HWY_INLINE void for_each(std::int64_t count, const Body& body) {
  const hn::ScalableTag<float> d;
  const hn::CappedTag<float, 1> one;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t i = 0;
  for (; i + lanes <= count; i += lanes) body(d, i);
  for (; i < count; ++i) body(one, i);
}

template <class D>
HWY_INLINE hn::Vec<D> load(D d, const Bf16* from) {
  const hn::Rebind<std::uint32_t, D> wide;
  const hn::Rebind<std::uint16_t, D> narrow;
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(wide, hn::LoadU(narrow, from))));
}

// The nearest BF16 value, ties to even. A NaN whose low bits are all ones would not survive; arithmetic makes none.
template <class D>
HWY_INLINE hn::Vec<D> rounded(D d, hn::Vec<D> value) {
  const hn::Rebind<std::uint32_t, D> wide;
  const auto bits = hn::BitCast(wide, value);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(wide, 1u));
  return hn::BitCast(d, hn::And(hn::Add(bits, hn::Add(odd, hn::Set(wide, 0x7FFFu))), hn::Set(wide, 0xFFFF0000u)));
}

template <class D>
HWY_INLINE void store(D d, hn::Vec<D> value, Bf16* to) {
  const hn::Rebind<std::uint32_t, D> wide;
  const hn::Rebind<std::int32_t, D> wide_signed;
  const hn::Rebind<std::uint16_t, D> narrow;
  const auto high = hn::ShiftRight<16>(hn::BitCast(wide, rounded(d, value)));
  hn::StoreU(hn::DemoteTo(narrow, hn::BitCast(wide_signed, high)), narrow, to);
}

template <class D>
HWY_INLINE hn::Vec<D> sigmoid(D d, hn::Vec<D> x) {
  const auto one = hn::Set(d, 1.0F);
  // exp overflows beyond 88; there the sigmoid is 0 in BF16 anyway.
  return hn::Div(one, hn::Add(one, hn::Exp(d, hn::Min(hn::Neg(x), hn::Set(d, 87.0F)))));
}

// The sum of x, or of x + branch rounded and written to `sum`, squared, over a row.
template <bool kBranch>
HWY_INLINE float sum_of_squares(const Bf16* x, const Bf16* branch, std::int64_t size, Bf16* sum) {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const hn::CappedTag<float, 1> one;
  const auto value = [&](auto tag, std::int64_t at) HWY_ATTR {
    if constexpr (!kBranch) return load(tag, x + at);
    store(tag, hn::Add(load(tag, x + at), load(tag, branch + at)), sum + at);
    return load(tag, sum + at);
  };
  auto sums = hn::Zero(d);
  std::int64_t i = 0;
  for (; i + lanes <= size; i += lanes) {
    const auto v = value(d, i);
    sums = hn::MulAdd(v, v, sums);
  }
  float total = hn::GetLane(hn::SumOfLanes(d, sums));
  for (; i < size; ++i) {
    const float v = hn::GetLane(value(one, i));
    total += v * v;
  }
  return total;
}

HWY_NOINLINE void rms_statistics(const Bf16* x, const Bf16* branch, double epsilon, std::int64_t rows,
                                 std::int64_t size, Bf16* sum, float* rstd) {
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::int64_t at = r * size;
    const float total = branch == nullptr ? sum_of_squares<false>(x + at, nullptr, size, nullptr)
                                          : sum_of_squares<true>(x + at, branch + at, size, sum + at);
    rstd[r] = static_cast<float>(1 / std::sqrt(static_cast<double>(total) / static_cast<double>(size) + epsilon));
  }
}

HWY_NOINLINE void rms_norm(const Bf16* x, const float* weight, const float* rstd, std::int64_t rows, std::int64_t size,
                           Bf16* out) {
  for (std::int64_t r = 0; r < rows; ++r) {
    const Bf16* from = x + r * size;
    Bf16* to = out + r * size;
    for_each(size, [&](auto tag, std::int64_t at) HWY_ATTR {
      const auto scaled = hn::Mul(load(tag, from + at), hn::Set(tag, rstd[r]));
      store(tag, hn::Mul(scaled, hn::LoadU(tag, weight + at)), to + at);
    });
  }
}

// With n = x * rstd and g = dy * weight: dx = rstd * (g - n * mean(g n)), dweight = sum of dy * n.
HWY_NOINLINE void rms_norm_backward(const Bf16* x, const float* weight, const float* rstd, const Bf16* dy,
                                    const Bf16* residual, std::int64_t rows, std::int64_t size, Bf16* dx,
                                    float* dweight) {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const hn::CappedTag<float, 1> one;
  for (std::int64_t r = 0; r < rows; ++r) {
    const Bf16* from = x + r * size;
    const Bf16* gradient = dy + r * size;
    const float factor = rstd[r];
    auto sums = hn::Zero(d);
    std::int64_t i = 0;
    const auto step = [&](auto tag, std::int64_t at) HWY_ATTR {
      const auto product = hn::Mul(load(tag, gradient + at), hn::Mul(load(tag, from + at), hn::Set(tag, factor)));
      hn::StoreU(hn::Add(hn::LoadU(tag, dweight + at), product), tag, dweight + at);
      return hn::Mul(product, hn::LoadU(tag, weight + at));
    };
    for (; i + lanes <= size; i += lanes) sums = hn::Add(sums, step(d, i));
    float sum = hn::GetLane(hn::SumOfLanes(d, sums));
    for (; i < size; ++i) sum += hn::GetLane(step(one, i));
    const float mean = sum / static_cast<float>(size);
    Bf16* to = dx + r * size;
    for_each(size, [&](auto tag, std::int64_t at) HWY_ATTR {
      const auto g = hn::Mul(load(tag, gradient + at), hn::LoadU(tag, weight + at));
      const auto n = hn::Mul(load(tag, from + at), hn::Set(tag, factor));
      const auto own = hn::Mul(hn::Set(tag, factor), hn::NegMulAdd(n, hn::Set(tag, mean), g));
      // Rounded before it is added, as the sum of two BF16 tensors is.
      store(tag, residual == nullptr ? own : hn::Add(load(tag, residual + r * size + at), rounded(tag, own)), to + at);
    });
  }
}

HWY_NOINLINE void swiglu(const Bf16* x, std::int64_t rows, std::int64_t half, Bf16* out) {
  for (std::int64_t r = 0; r < rows; ++r) {
    const Bf16* gate = x + 2 * r * half;
    for_each(half, [&](auto tag, std::int64_t at) HWY_ATTR {
      const auto g = load(tag, gate + at);
      store(tag, hn::Mul(hn::Mul(g, sigmoid(tag, g)), load(tag, gate + half + at)), out + r * half + at);
    });
  }
}

HWY_NOINLINE void swiglu_backward(const Bf16* x, const Bf16* dy, std::int64_t rows, std::int64_t half, Bf16* dx) {
  for (std::int64_t r = 0; r < rows; ++r) {
    const Bf16* gate = x + 2 * r * half;
    Bf16* to = dx + 2 * r * half;
    for_each(half, [&](auto tag, std::int64_t at) HWY_ATTR {
      const auto g = load(tag, gate + at);
      const auto u = load(tag, gate + half + at);
      const auto gradient = load(tag, dy + r * half + at);
      const auto s = sigmoid(tag, g);
      const auto silu = hn::Mul(g, s);
      // silu' = s + silu (1 - s)
      const auto slope = hn::MulAdd(silu, hn::Sub(hn::Set(tag, 1.0F), s), s);
      store(tag, hn::Mul(hn::Mul(gradient, u), slope), to + at);
      store(tag, hn::Mul(gradient, silu), to + half + at);
    });
  }
}

HWY_NOINLINE void rotate(const Bf16* x, std::int64_t stride, const float* cos, const float* sin, float direction,
                         std::int64_t heads, std::int64_t half, Bf16* out) {
  for (std::int64_t h = 0; h < heads; ++h) {
    const Bf16* from = x + h * stride;
    Bf16* to = out + 2 * h * half;
    for_each(half, [&](auto tag, std::int64_t at) HWY_ATTR {
      const auto a = load(tag, from + at);
      const auto b = load(tag, from + half + at);
      const auto c = hn::LoadU(tag, cos + at);
      const auto s = hn::Mul(hn::LoadU(tag, sin + at), hn::Set(tag, direction));
      store(tag, hn::NegMulAdd(b, s, hn::Mul(a, c)), to + at);
      store(tag, hn::MulAdd(a, s, hn::Mul(b, c)), to + half + at);
    });
  }
}

}  // namespace ufp4::cpu_layers::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ufp4::cpu_layers {

HWY_EXPORT(rms_statistics);
HWY_EXPORT(rms_norm);
HWY_EXPORT(rms_norm_backward);
HWY_EXPORT(swiglu);
HWY_EXPORT(swiglu_backward);
HWY_EXPORT(rotate);

void rms_statistics(const Bf16* x, const Bf16* branch, double epsilon, std::int64_t rows, std::int64_t size, Bf16* sum,
                    float* rstd) {
  HWY_DYNAMIC_DISPATCH(rms_statistics)(x, branch, epsilon, rows, size, sum, rstd);
}

void rms_norm(const Bf16* x, const float* weight, const float* rstd, std::int64_t rows, std::int64_t size, Bf16* out) {
  HWY_DYNAMIC_DISPATCH(rms_norm)(x, weight, rstd, rows, size, out);
}

void rms_norm_backward(const Bf16* x, const float* weight, const float* rstd, const Bf16* dy, const Bf16* residual,
                       std::int64_t rows, std::int64_t size, Bf16* dx, float* dweight) {
  HWY_DYNAMIC_DISPATCH(rms_norm_backward)(x, weight, rstd, dy, residual, rows, size, dx, dweight);
}

void swiglu(const Bf16* x, std::int64_t rows, std::int64_t half, Bf16* out) {
  HWY_DYNAMIC_DISPATCH(swiglu)(x, rows, half, out);
}

void swiglu_backward(const Bf16* x, const Bf16* dy, std::int64_t rows, std::int64_t half, Bf16* dx) {
  HWY_DYNAMIC_DISPATCH(swiglu_backward)(x, dy, rows, half, dx);
}

void rotate(const Bf16* x, std::int64_t stride, const float* cos, const float* sin, float direction, std::int64_t heads,
            std::int64_t half, Bf16* out) {
  HWY_DYNAMIC_DISPATCH(rotate)(x, stride, cos, sin, direction, heads, half, out);
}

}  // namespace ufp4::cpu_layers
#endif  // HWY_ONCE
