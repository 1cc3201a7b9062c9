#include "numerics/scale_rules.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "numerics/rounding.h"
#include "ufp4/dtype.h"
#include "ufp4/format.h"

namespace ufp4::reference {
namespace {

constexpr float kFloatMax = std::numeric_limits<float>::max();
constexpr float kE4m3Largest = 448;

// What every rule works on.
struct Input {
  std::span<const float> values;
  const BlockFormat& format;
  std::span<const std::uint32_t> n16;
  float outer_amax;
  float tau;

  const std::uint32_t* draw(std::size_t i) const { return n16.empty() ? nullptr : &n16[i]; }
};

float largest_magnitude(std::span<const float> values) {
  float amax = 0;
  for (const float v : values) amax = std::max(amax, std::fabs(v));
  return amax;
}

// The scale of full two's complement elements: signed so that the larger extreme takes the code -8 and nothing clips.
float signed_extreme(std::span<const float> values) {
  float positive = 0;
  float negative = 0;
  for (const float v : values) {
    positive = std::max(positive, v);
    negative = std::max(negative, -v);
  }
  const float a = std::max(positive / 8, negative / 7);
  const float b = std::max(negative / 8, positive / 7);
  return a < b ? -a : b;
}

void encode_all(Block& block, const Input& in, const ElementFormat& element, float multiplier) {
  for (std::size_t i = 0; i < in.values.size(); ++i) {
    block.codes[i] = encode(element, in.values[i] * multiplier, in.draw(i));
  }
}

Block amax_rule(const Input& in) {
  Block block;
  const float amax = largest_magnitude(in.values);
  if (amax < 0x1p-120F) return block;
  const ElementFormat& element = in.format.element;
  if (element.code_kind == CodeKind::kFullTwosComplement) {
    block.scale = signed_extreme(in.values);
    encode_all(block, in, element, 1 / block.scale);
  } else {
    block.scale = amax / element.largest();
    encode_all(block, in, element, element.largest() / amax);
  }
  return block;
}

// What a block's values are multiplied by, of its E4M3 scale and the tensor's: as TransformerEngine's reference has it.
float encode_multiplier(float scale, float g) { return std::min(1 / (scale * (1 / g)), kFloatMax); }

Block tensor_e4m3_rule(const Input& in) {
  Block block;
  const float amax = largest_magnitude(in.values);
  if (amax == 0) return block;
  const float g = std::min(in.format.outer_divisor / in.outer_amax, kFloatMax);
  const float reciprocal = 1.0F / in.format.element.largest();
  block.scale = e4m3_to_float(float_to_e4m3(std::min(amax * (g * reciprocal), kE4m3Largest)));
  encode_all(block, in, in.format.element, encode_multiplier(block.scale, g));
  return block;
}

Block tensor_e4m3_int_rule(const Input& in) {
  Block block;
  const float amax = largest_magnitude(in.values);
  if (amax == 0) return block;
  const float c = std::min(in.format.outer_divisor / in.outer_amax, kFloatMax);
  block.scale = e4m3_to_float(float_to_e4m3(std::min((amax / in.format.element.largest()) * c, kE4m3Largest)));
  if (block.scale == 0) return block;
  encode_all(block, in, in.format.element, std::min(1 / ((1 / c) * block.scale), kFloatMax));
  return block;
}

Block best_of_two_rule(const Input& in) {
  Block best;
  const float amax = largest_magnitude(in.values);
  if (amax == 0) return best;
  const float divisor = in.format.outer_divisor;
  const float g = std::min(divisor / in.outer_amax, kFloatMax);
  const Alternative& other = in.format.alternative;
  const float largest = in.format.element.largest();
  const bool same_element = other.element.name == in.format.element.name;
  float best_error = 0;
  for (const std::uint8_t choice : {std::uint8_t{0}, std::uint8_t{1}}) {
    const ElementFormat& element = choice == 0 ? in.format.element : other.element;
    // Scaling the same elements to a lower level enlarges the scale; another grid has its own largest level.
    const float base = (amax / (same_element ? largest : element.largest())) * g;
    const float scaled = choice == 1 && same_element ? base * (largest / other.largest) : base;
    Block candidate;
    candidate.scale = e4m3_to_float(float_to_e4m3(std::min(scaled, kE4m3Largest)));
    candidate.selectors.fill(choice);
    encode_all(candidate, in, element, encode_multiplier(candidate.scale, g));
    float error = 0;
    for (std::size_t i = 0; i < in.values.size(); ++i) {
      const float value = code_value(element, candidate.codes[i]) * candidate.scale;
      const float difference = value * in.outer_amax / divisor - in.values[i];
      error += difference * difference;
    }
    if (choice == 0 || error < best_error) {
      best = candidate;
      best_error = error;
    }
  }
  return best;
}

// The exponent field of an FP32 number without its bias: -127 for zero and subnormals.
int exponent_field(float value) { return static_cast<int>((std::bit_cast<std::uint32_t>(value) >> 23) & 0xFFu) - 127; }

// OCP's reference divides by no less than the least normal number; microxcaling by the scale itself.
Block exponent_floor_rule(const Input& in, float least_divisor) {
  Block block;
  const float amax = largest_magnitude(in.values);
  const int largest_exponent = std::ilogb(in.format.element.largest());
  const int exponent = std::clamp(exponent_field(amax) - largest_exponent, -127, 127);
  block.scale = std::ldexp(1.0F, exponent);
  const float divisor = std::max(block.scale, least_divisor);
  for (std::size_t i = 0; i < in.values.size(); ++i) {
    block.codes[i] = encode(in.format.element, in.values[i] / divisor, in.draw(i));
  }
  return block;
}

Block integer_multiple_rule(const Input& in) {
  Block block;
  const float outer = std::fabs(in.outer_amax);
  if (outer < in.format.outer_least) return block;
  const float largest = in.format.outer_divisor;
  const float inverse = largest / outer;
  const float extreme = signed_extreme(in.values);
  const float f = std::fabs(extreme);
  const IntegerScales& integers = in.format.integers;
  if (f < integers.least) return block;
  const float r = f * inverse;
  const float lowered = in.n16.empty() ? r - std::min(integers.most_lowered, r * integers.lowered) : r;
  const float m = std::clamp(std::ceil(lowered), 1.0F, largest);
  const float sign = extreme < 0 ? -1.0F : 1.0F;
  block.scale = sign * m;
  const float multiplier = sign * (1 / m);
  for (std::size_t i = 0; i < in.values.size(); ++i) {
    block.codes[i] = encode(in.format.element, (in.values[i] * inverse) * multiplier, in.draw(i));
  }
  return block;
}

Block pow2_window_rule(const Input& in) {
  Block block;
  const float outer = outer_scale(in.format, in.outer_amax);
  const float inverse = outer == 0 ? 0 : 1 / outer;
  const float extreme = signed_extreme(in.values);
  const float r = std::fabs(extreme) * inverse;
  const PowerWindow& window = in.format.window;
  int k = window.least;
  while (k < window.largest && std::ldexp(in.tau, k) < r) ++k;
  block.clipped = std::ldexp(in.tau, k) < r;
  const float sign = extreme < 0 ? -1.0F : 1.0F;
  block.scale = std::ldexp(sign, k);
  const float multiplier = std::ldexp(sign, -k);
  for (std::size_t i = 0; i < in.values.size(); ++i) {
    block.codes[i] = encode(in.format.element, (in.values[i] * inverse) * multiplier, in.draw(i));
  }
  return block;
}

// HiFloat4: SF for the block, one bit more for each 8 elements and for each 4; magnitudes round half up.
Block two_level_exponent_rule(const Input& in) {
  Block block;
  const float seventh = bf16_to_float(float_to_bf16(1.0F / 7));
  const float raw = bf16_to_float(float_to_bf16(largest_magnitude(in.values) * seventh));
  const float sf = std::clamp(raw, 0x1p-48F, 49152.0F);
  const int exponent = std::ilogb(sf);
  block.scale = std::ldexp(std::nearbyint(std::ldexp(sf, 2 - exponent)), exponent - 2);  // two mantissa bits
  const float r = bf16_to_float(float_to_bf16(1 / block.scale));
  for (std::size_t i = 0; i < in.values.size(); i += 4) {
    const float amax8 = largest_magnitude(in.values.subspan(i / 8 * 8, 8));
    const float amax4 = largest_magnitude(in.values.subspan(i, 4));
    const int level2 = amax8 * r >= 4 ? 1 : 0;
    const int level3 = (amax4 * r) * (level2 == 1 ? 0.5F : 1.0F) >= 2 ? 1 : 0;
    block.selectors[i / 4] = static_cast<std::uint8_t>(level2 + level3);
    for (std::size_t j = i; j < i + 4; ++j) {
      const double t =
          std::ldexp(std::fabs(static_cast<double>(in.values[j])) * static_cast<double>(r), 2 - level2 - level3);
      const double lower = std::min(std::floor(t), 7.0);
      const bool up = in.n16.empty() ? t - lower >= 0.5 : (in.n16[j] + 0.5) / 65536 < t - lower;
      const auto magnitude = static_cast<unsigned>(std::min(lower + (up ? 1 : 0), 7.0));
      block.codes[j] = static_cast<std::uint8_t>(magnitude == 0 || in.values[j] >= 0 ? magnitude : 8 + magnitude);
    }
  }
  return block;
}

}  // namespace

float outer_magnitude(const BlockFormat& format, std::span<const float> values) {
  if (!std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); })) {
    return format.outer_of_extremes() ? -0.0F : 0.0F;
  }
  return format.outer_of_extremes() ? std::fabs(signed_extreme(values)) : largest_magnitude(values);
}

float raised(float outer_amax, float by) {
  const float magnitude = std::max(std::fabs(outer_amax), std::fabs(by));
  return std::signbit(outer_amax) || std::signbit(by) ? -magnitude : magnitude;
}

float outer_scale(const BlockFormat& format, float outer_amax) {
  if (!format.has_outer_scale()) return 1;
  if (std::signbit(outer_amax)) return std::numeric_limits<float>::quiet_NaN();
  if (outer_amax < format.outer_least) return 0;
  return outer_amax / format.outer_divisor;
}

float element_value(const BlockFormat& format, unsigned code, float scale, unsigned selector) {
  if (format.rule == ScaleRule::kTwoLevelExponent) {
    return code_value(format.element, code) * std::ldexp(scale, static_cast<int>(selector));
  }
  // As the integer that it is, which has no negative zero.
  if (format.scale == ScaleEncoding::kInt8) return code_value(format.element, code) * scale + 0.0F;
  return code_value(selector == 0 || format.selector_block == 0 ? format.element : format.alternative.element, code) *
         scale;
}

float tau_of(const OperandSpec& spec) {
  return spec.options.tau != 0 ? spec.options.tau : spec.rounding == Rounding::kNearest ? 9.0F / 8 : 1.0F;
}

Block quantize_block(std::span<const float> values, const OperandSpec& spec, std::span<const std::uint32_t> n16,
                     float outer_amax) {
  if (!std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); })) {
    Block block;
    if (spec.format->scale != ScaleEncoding::kInt8) block.scale = std::numeric_limits<float>::quiet_NaN();
    return block;
  }
  const Input in{values, *spec.format, n16, outer_amax, tau_of(spec)};
  switch (spec.format->rule) {
    case ScaleRule::kAmax: return amax_rule(in);
    case ScaleRule::kTensorE4m3: return tensor_e4m3_rule(in);
    case ScaleRule::kTensorE4m3Int: return tensor_e4m3_int_rule(in);
    case ScaleRule::kBestOfTwo: return best_of_two_rule(in);
    case ScaleRule::kExponentFloor: return exponent_floor_rule(in, 0x1p-126F);
    case ScaleRule::kExponentFloorInt: return exponent_floor_rule(in, 0x1p-127F);
    case ScaleRule::kPow2Window: return pow2_window_rule(in);
    case ScaleRule::kIntegerMultiple: return integer_multiple_rule(in);
    case ScaleRule::kTwoLevelExponent: return two_level_exponent_rule(in);
  }
  return {};
}

}  // namespace ufp4::reference
