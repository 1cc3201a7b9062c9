#include "cuda/operand.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <string>

#include "cuda/kernels.h"
#include "cuda/launch.h"
#include "numerics/hadamard.h"
#include "numerics/philox.h"
#include "numerics/scale_rules.h"
#include "ufp4/error.h"
#include "ufp4/format.h"

namespace ufp4::cuda {
namespace {

constexpr std::array<float, 8> kFloatLevels{0, 0.5F, 1, 1.5F, 2, 3, 4, 6};
constexpr float kInfinity = std::numeric_limits<float>::infinity();

bool power_of_two(float x) {
  int exponent = 0;
  return std::frexp(x, &exponent) == 0.5F && std::abs(exponent) < 64;
}

Levels levels_of(const ElementFormat& element) {
  if (element.code_kind == CodeKind::kFullTwosComplement) return Levels::kIntegers;
  if (element.uniform() && power_of_two(element.levels[1])) return Levels::kUniform;
  const auto count = static_cast<std::ptrdiff_t>(element.level_count);
  if (std::equal(kFloatLevels.begin(), kFloatLevels.begin() + count, element.levels.begin())) return Levels::kFloat;
  return Levels::kTable;
}

std::optional<Policy> policy_by(Levels levels, Policy of_uniform, Policy of_float) {
  if (levels == Levels::kUniform) return of_uniform;
  if (levels == Levels::kFloat) return of_float;
  return std::nullopt;
}

bool either(Levels levels) { return levels == Levels::kUniform || levels == Levels::kFloat; }

// Far from the ends of FP32, where what kernels calculate for a block of ordinary size is exact.
bool has_plain_window(const PowerWindow& window) { return window.least >= -40 && window.largest <= 40; }

// Whether divide_by gives the correctly rounded quotient: the odd part of the divisor has few enough bits that no
// quotient lies nearer to the middle of two floats than the reciprocal, of twice the precision, can tell.
bool divides_exactly(float x) {
  int exponent = 0;
  auto odd = static_cast<std::uint32_t>(std::ldexp(std::frexp(x, &exponent), 24));
  if (odd == 0 || std::abs(exponent) > 40) return false;
  return odd >> std::countr_zero(odd) < 1u << 18;
}

// Nothing: the kernels do not know the format.
std::optional<Policy> policy_of(const BlockFormat& format) {
  const Levels levels = levels_of(format.element);
  switch (format.rule) {
    case ScaleRule::kAmax:
      if (format.scale != ScaleEncoding::kFp32) return std::nullopt;
      switch (levels) {
        case Levels::kUniform: return Policy::kUniform;
        case Levels::kFloat: return Policy::kFloat;
        case Levels::kIntegers: return Policy::kSigned;
        case Levels::kTable:
        case Levels::kEither: return Policy::kTable;
      }
      return std::nullopt;
    case ScaleRule::kPow2Window:
      if (levels != Levels::kIntegers || format.scale != ScaleEncoding::kPow2 || !has_plain_window(format.window))
        return std::nullopt;
      return Policy::kWindow;
    case ScaleRule::kTensorE4m3:
    case ScaleRule::kTensorE4m3Int:
      if (format.scale != ScaleEncoding::kE4m3) return std::nullopt;
      return policy_by(levels, Policy::kByteUniform, Policy::kByteFloat);
    case ScaleRule::kExponentFloor:
    case ScaleRule::kExponentFloorInt:
      if (format.scale != ScaleEncoding::kE8m0) return std::nullopt;
      return policy_by(levels, Policy::kPowerUniform, Policy::kPowerFloat);
    case ScaleRule::kBestOfTwo: {
      const ElementFormat& other = format.alternative.element;
      const bool alike = other.code_kind == format.element.code_kind;
      if (format.scale != ScaleEncoding::kE4m3 || !either(levels) || !either(levels_of(other)) || !alike)
        return std::nullopt;
      return Policy::kBetter;
    }
    case ScaleRule::kIntegerMultiple:
      if (levels != Levels::kIntegers || format.scale != ScaleEncoding::kInt8 || format.outer_divisor > 15 ||
          !divides_exactly(format.outer_divisor) || format.integers != kKernelIntegers)
        return std::nullopt;
      return Policy::kInteger;
    case ScaleRule::kTwoLevelExponent:
      if (format.scale != ScaleEncoding::kE6m2 || levels != Levels::kUniform || format.block != 64 ||
          format.element.levels[1] != 0.25F || format.element.level_count != 8)
        return std::nullopt;
      return Policy::kTwoLevel;
  }
  return std::nullopt;
}

// Nearest takes the index above only beyond the middle, or at it where the index below is odd.
float boundary(const ElementFormat& element, int below) {
  const auto i = static_cast<std::size_t>(below);
  const float middle = (element.levels[i] + element.levels[i + 1]) / 2;
  return below % 2 == 0 ? middle : std::nextafter(middle, -kInfinity);
}

std::uint32_t both_halves(int x) { return static_cast<std::uint32_t>(x) * 0x00010001u; }

Output output_of(const Operand& p) {
  if ((p.outer_parts && p.policy != Policy::kInteger) || p.selectors != nullptr) return Output::kAny;
  const bool anything_packed = p.codes != nullptr || p.scales != nullptr || p.packed_scales != nullptr;
  const bool values = p.dequantized != nullptr || p.e4m3 != nullptr || p.int8 != nullptr;
  const bool bytes = has_scale_bytes(p.policy);
  const bool one_of_both =
      bytes ? p.packed_scales != nullptr && p.scales == nullptr : p.scales != nullptr && p.packed_scales == nullptr;
  if (p.codes != nullptr && !values && one_of_both) return Output::kPacked;
  const auto given = [](const void* result) { return result == nullptr ? 0 : 1; };
  if (anything_packed || given(p.dequantized) + given(p.e4m3) + given(p.int8) != 1) return Output::kAny;
  if (p.int8 != nullptr) return Output::kInt8;
  if (p.e4m3 != nullptr) return Output::kE4m3;
  return p.dequantized_f32 ? Output::kAny : Output::kBf16;
}

std::string shape_text(std::int64_t rows, std::int64_t columns) {
  return "matrix [" + std::to_string(rows) + ", " + std::to_string(columns) + "]";
}

void set_element(Operand& p, const BlockFormat& format) {
  const ElementFormat& element = format.element;
  p.sign_magnitude = element.code_kind == CodeKind::kSignMagnitude;
  p.largest = element.largest();
  p.level = divisor_of(p.largest);
  p.step = element.code_kind == CodeKind::kFullTwosComplement ? 1 : element.levels[1];
  p.index_factor = 1 / p.step;
  if (p.stochastic) p.index_factor *= -(1 - 0x1p-24F);
  const bool two = format.selector_block != 0 && format.alternative.largest != 0;
  for (unsigned code = 0; code < 16; ++code) {
    p.values[code] = code_value(element, code);
    p.values[16 + code] = two ? code_value(format.alternative.element, code) : p.values[code];
  }
  p.level_count = element.level_count;
  p.highest = both_halves(element.level_count - 1);
  for (int i = 0; i < element.level_count; ++i) p.levels[i] = element.levels[static_cast<std::size_t>(i)];
  for (int i = 0; i + 1 < element.level_count; ++i) p.boundaries[i] = boundary(element, i);
}

void set_transform(Operand& p, const OperandSpec& spec, const Place& place) {
  p.hadamard = spec.hadamard.size;
  p.hadamard_scale = p.hadamard == 0 ? 1 : hadamard_scale(p.hadamard);
  const Signs signs = signs_of(spec, place);
  std::copy(signs.begin(), signs.end(), p.signs);
  const auto sign = [&](int i) { return ((p.signs[0] >> i) & 1u) != 0 ? -1.0F : 1.0F; };
  float* relative = p.relative_signs;
  for (int stride = 1; stride < kRun; stride *= 2) {
    for (int i = 0; i < kRun; i += 2 * stride) *relative++ = sign(i) * sign(i + stride);
  }
  p.run_factor = p.hadamard == 0 ? 1 : sign(0) * p.hadamard_scale;
  p.lanes = spec.block_size() / kRun;
  while ((1 << p.lanes_shift) < p.lanes) ++p.lanes_shift;
  p.span = p.policy == Policy::kTable || p.hadamard > kRun ? Span::kLanes : p.lanes == 1 ? Span::kOneRun : Span::kRuns;
}

void set_outer(Operand& p, const OperandSpec& spec, const QuantizedShape& shape) {
  const BlockFormat& format = *spec.format;
  p.outer_divisor = format.outer_divisor;
  p.outer = divisor_of(format.outer_divisor);
  p.outer_exact = divides_exactly(format.outer_divisor);
  p.least_amax = format.outer_least;
  p.outer_parts = format.has_outer_scale() && spec.outer_each() != OuterScale::kTensor;
  const OuterShape outer = outer_shape(shape, spec.outer_each());
  p.outer_shift = spec.outer_each() == OuterScale::k128x128 ? 7 : 0;
  p.outer_columns = static_cast<std::uint32_t>(outer.columns);
  const std::int64_t each = columns_of(spec.outer_each());
  p.outer_column_shift =
      each == 0 ? 31 : static_cast<std::uint32_t>(std::bit_width(static_cast<std::uint64_t>(each)) - 1);
}

void set_window(Operand& p, const OperandSpec& spec) {
  const PowerWindow& window = spec.format->window;
  const auto bits = [](float x) { return std::bit_cast<std::uint32_t>(x); };
  p.tau = reference::tau_of(spec);
  p.round_up = p.tau > 1 ? 0x6FFFFFu : 0x7FFFFFu;
  p.least_power = bits(std::ldexp(1.0F, window.least));
  p.largest_power = bits(std::ldexp(1.0F, window.largest));
  p.largest_reach = std::ldexp(p.tau, window.largest);
  p.least_reach = bits(std::ldexp(1.0F, window.least - 11));
  p.reach_span = bits(p.largest_reach) - p.least_reach;
}

Choice choice_of(const ElementFormat& element, float base_divisor, float base_factor) {
  const bool uniform = levels_of(element) == Levels::kUniform;
  Choice c{};
  c.map = uniform ? LevelMap{0xFFFFFFFFu, std::bit_cast<std::uint32_t>(2 * element.levels[1])} : kFloatMap;
  c.largest = element.largest();
  c.base_divisor = base_divisor;
  c.base = divisor_of(base_divisor);
  c.base_factor = base_factor;
  c.highest = both_halves(element.level_count - 1);
  return c;
}

// In steps of its scale, numerics' error of a block and one that is found in another order, by t and the level alone,
// differ by this share of the error and of 1. With u = 2^-24 and L the largest level: numerics rounds a value three
// times and the scale that t follows from five times, and |t| <= 17/16 L, so the differences of an element differ by at
// most r = 10 L u. The sum of n squares e then differs by 2 r sqrt(n e) + n r^2, which is below r sqrt(n) (1 + e) but
// for its last term, and by the rounding of 2 n squares and sums, below (2 n + 16) u e. The rest is for numbers that
// fall below those of FP32 (see open_outer).
float doubt_of(float largest, int block) {
  const auto n = static_cast<float>(block);
  return (10 * largest * std::sqrt(n) + 2 * n + 32) * 0x1p-24F;
}

void set_rule(Operand& p, const OperandSpec& spec) {
  const BlockFormat& format = *spec.format;
  p.divided = format.rule == ScaleRule::kTensorE4m3Int;
  p.largest_exponent = static_cast<std::uint32_t>(std::ilogb(format.element.largest())) << 23;
  p.least_divisor = format.rule == ScaleRule::kExponentFloor ? 0x1p-126F : 0x1p-127F;
  if (p.policy == Policy::kWindow) set_window(p, spec);
  if (p.policy != Policy::kBetter) return;
  // The same elements scaled to a lower level, or a grid with its own largest level.
  const Alternative& other = format.alternative;
  const bool same = other.element.name == format.element.name;
  p.choices[0] = choice_of(format.element, format.element.largest(), 1);
  p.choices[1] = same ? choice_of(other.element, format.element.largest(), format.element.largest() / other.largest)
                      : choice_of(other.element, other.element.largest(), 1);
  p.doubt = doubt_of(std::max(p.choices[0].largest, p.choices[1].largest), spec.block_size());
}

void set_random(Operand& p, const Place& place, const DevicePlace& device) {
  philox::Key key = philox::make_key(place.seed);
  for (unsigned word = 0; word < 2 * philox::kRounds; word += 2) {
    p.round_keys[word] = key[0];
    p.round_keys[word + 1] = key[1];
    key[0] += philox::kWeyl0;
    key[1] += philox::kWeyl1;
  }
  const std::uint64_t product = std::uint64_t{philox::kMultiplier1} * place.step;
  p.first_x = static_cast<std::uint32_t>(product >> 32) ^ p.round_keys[0];
  p.first_y = static_cast<std::uint32_t>(product);
  p.first_z = place.stream ^ p.round_keys[1];
  p.stream = place.stream;
  p.device = device;
  p.of_columns = place.axis == Axis::kColumn;
  p.row_numbers = place.row_numbers;
  p.row_offset = place.row_offset;
  p.column_offset = place.column_offset;
  const bool regular = p.column_offset % 8 == 0 && p.row_numbers == nullptr;
  if (p.stochastic && !regular) p.span = Span::kLanes;
}

void set_results(Operand& p, const Quantized& out, const BlockFormat& format) {
  p.codes = out.codes;
  p.scales = out.scales;
  p.dequantized = out.dequantized;
  p.dequantized_f32 = out.dequantized_dtype == DType::kF32;
  p.e4m3 = out.e4m3;
  p.int8 = out.int8;
  p.packed_scales = out.packed_scales;
  p.scale_code = scale_code(format.scale);
  p.has_selectors = format.selector_block != 0;
  p.selectors = p.has_selectors ? out.selectors : nullptr;
  if (p.scale_code == ScaleCode::kF32 && p.scales == nullptr) {
    p.scales = reinterpret_cast<float*>(p.packed_scales);
    p.packed_scales = nullptr;
  }
  p.output = output_of(p);
  p.amax = out.amax;
  p.clipped = out.clipped;
}

void check_dimensions(std::int64_t rows, std::int64_t columns) {
  if (std::max(rows, columns) <= kLargestDimension) return;
  throw InputError("quantize: " + shape_text(rows, columns) + " has a dimension beyond the " +
                   std::to_string(kLargestDimension) + " of the GPU kernels");
}

void check_spec(const OperandSpec& spec) {
  if (!has_kernels(*spec.format)) {
    throw InputError("quantize: the GPU kernels do not know the elements and scales of format '" +
                     std::string(spec.format->name) + "'; quantize it on the CPU");
  }
  if (spec.hadamard.round_to_bf16) {
    throw InputError("quantize: the GPU kernels do not round the transform's output; quantize it on the CPU");
  }
}

void set_shape(Operand& p, const QuantizedShape& shape) {
  p.rows = static_cast<std::uint32_t>(shape.rows);
  p.columns = static_cast<std::uint32_t>(shape.columns);
  p.runs_per_row = p.columns / kRun;
}

// Of a task whose specification has been checked.
Operand operand_of(const DeviceTask& device_task, const QuantizedShape& shape) {
  const QuantizeTask& task = device_task.task;
  const OperandSpec& spec = task.spec;
  Operand p{};
  p.policy = *policy_of(*spec.format);
  p.stochastic = spec.rounding == Rounding::kStochastic;
  set_element(p, *spec.format);
  set_transform(p, spec, task.place);
  set_outer(p, spec, shape);
  p.outer_amax = task.outer_amax;
  p.outer_scales = task.out.outer_scales;
  set_rule(p, spec);
  set_random(p, task.place, device_task.place);
  set_results(p, task.out, *spec.format);
  p.only_if = device_task.only_if;
  set_shape(p, shape);
  return p;
}

}  // namespace

ScaleCode scale_code(ScaleEncoding encoding) {
  switch (encoding) {
    case ScaleEncoding::kFp32: return ScaleCode::kF32;
    case ScaleEncoding::kE4m3:
    case ScaleEncoding::kPow2: return ScaleCode::kE4m3;
    case ScaleEncoding::kE8m0: return ScaleCode::kE8m0;
    case ScaleEncoding::kE6m2: return ScaleCode::kE6m2;
    case ScaleEncoding::kInt8: return ScaleCode::kInt8;
  }
  return ScaleCode::kF32;
}

Divisor divisor_of(float x) {
  if (x == 0) return {};
  const float reciprocal = 1 / x;
  return {reciprocal, static_cast<float>(1 / static_cast<double>(x) - static_cast<double>(reciprocal))};
}

bool has_kernels(const BlockFormat& format) { return policy_of(format).has_value(); }

bool takes(const OperandSpec& spec) { return has_kernels(*spec.format) && !spec.hadamard.round_to_bf16; }

Operand make_operand(std::int64_t rows, std::int64_t columns, const DeviceTask& device_task) {
  const QuantizeTask& task = device_task.task;
  const OperandSpec& spec = task.spec;
  const QuantizedShape shape = quantized_shape(rows, columns, spec, task.place.axis);
  check_dimensions(rows, columns);
  check_spec(spec);
  const std::string name = "'" + std::string(spec.format->name) + "'";
  if (task.place.row_numbers != nullptr && task.place.axis == Axis::kColumn) {
    throw InputError("quantize: row numbers were given for " + name + " along the column axis of a " +
                     shape_text(rows, columns) + "; the GPU kernels number rows one by one for axis 'row' only");
  }
  if (device_task.only_if != nullptr && !spec.format->has_window()) {
    throw InputError("quantize: only_if was given for " + name + ", which has no window of scales; int4_p2 has");
  }
  Operand p = operand_of(device_task, shape);
  p.finds_outer = task.outer_amax_unknown();
  return p;
}

bool finds_outer(DType dtype, const DeviceTask& device_task) {
  const QuantizeTask& task = device_task.task;
  if (!task.spec.format->outer_of_extremes() || !takes(task.spec) || !has_clusters()) return false;
  return fits_segments(dtype, operand_of(device_task, quantized_shape(1, 1, task.spec, task.place.axis)));
}

Operand make_operand(std::int64_t rows, std::int64_t columns, const AmaxTask& task) {
  const OperandSpec& spec = task.spec;
  const QuantizedShape shape = quantized_shape(rows, columns, spec, task.place.axis);
  check_dimensions(rows, columns);
  check_spec(spec);
  if (!spec.format->has_outer_scale()) {
    throw InputError("quantize: format '" + std::string(spec.format->name) + "' has no second-level scale");
  }
  if (task.amax == nullptr) {
    throw InputError("quantize: no place is given for the largest magnitudes of '" + std::string(spec.format->name) +
                     "'");
  }
  Operand p{};
  p.policy = spec.format->outer_of_extremes() ? Policy::kMeasureSigned : Policy::kMeasure;
  set_transform(p, spec, task.place);
  set_outer(p, spec, shape);
  p.of_columns = task.place.axis == Axis::kColumn;
  p.output = Output::kAny;
  p.amax = task.amax;
  set_shape(p, shape);
  return p;
}

}  // namespace ufp4::cuda
