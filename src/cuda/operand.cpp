#include "cuda/operand.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <string>

#include "cuda/quantize.h"
#include "numerics/hadamard.h"
#include "numerics/philox.h"
#include "numerics/scale_rules.h"
#include "ufp4/error.h"
#include "ufp4/format.h"

namespace ufp4::cuda {
namespace {

constexpr std::array<float, 8> kFloatLevels{0, 0.5F, 1, 1.5F, 2, 3, 4, 6};

bool power_of_two(float x) {
  int exponent = 0;
  return std::frexp(x, &exponent) == 0.5F && std::abs(exponent) < 64;
}

Grid grid_of(const BlockFormat& format) {
  const ElementFormat& element = format.element;
  if (format.rule == ScaleRule::kPow2Window) return Grid::kWindow;
  if (element.code_kind == CodeKind::kFullTwosComplement) return Grid::kSigned;
  if (element.uniform() && power_of_two(element.levels[1])) return Grid::kUniform;
  const auto count = static_cast<std::ptrdiff_t>(element.level_count);
  if (std::equal(kFloatLevels.begin(), kFloatLevels.begin() + count, element.levels.begin())) return Grid::kFloat;
  return Grid::kTable;
}

// Nearest takes the index above only beyond the middle, or at it where the index below is odd.
float boundary(const ElementFormat& element, int below) {
  const auto i = static_cast<std::size_t>(below);
  const float middle = (element.levels[i] + element.levels[i + 1]) / 2;
  return below % 2 == 0 ? middle : std::nextafter(middle, -std::numeric_limits<float>::infinity());
}

Output output_of(const Operand& p) {
  const bool window = p.grid == Grid::kWindow;
  const bool packed = p.codes != nullptr && (window ? p.packed_scales != nullptr : p.scales != nullptr);
  const bool anything_packed = p.codes != nullptr || p.scales != nullptr || p.packed_scales != nullptr;
  if (packed && !(window && p.scales != nullptr) && p.dequantized == nullptr && p.e4m3 == nullptr)
    return Output::kPacked;
  if (anything_packed || (p.dequantized == nullptr) == (p.e4m3 == nullptr)) return Output::kAny;
  if (p.e4m3 != nullptr) return Output::kE4m3;
  return p.dequantized_f32 ? Output::kAny : Output::kBf16;
}

}  // namespace

bool has_kernels(const BlockFormat& format, OuterScale outer) {
  return format.rule == ScaleRule::kAmax || (format.rule == ScaleRule::kPow2Window && outer == OuterScale::kTensor);
}

Operand make_operand(std::int64_t rows, std::int64_t columns, const QuantizeTask& task) {
  const QuantizeSpec& spec = task.spec;
  const QuantizedShape shape = quantized_shape(rows, columns, spec);
  if (std::max(rows, columns) > kLargestDimension) {
    throw InputError("quantize: matrix [" + std::to_string(rows) + ", " + std::to_string(columns) +
                     "] has a dimension beyond the " + std::to_string(kLargestDimension) + " of the GPU kernels");
  }
  if (!has_kernels(*spec.format, spec.outer)) {
    throw InputError("quantize: format '" + std::string(spec.format->name) +
                     "' has no GPU kernels: they know formats with one FP32 scale a block, and int4_p2 with a "
                     "second-level scale for the tensor; quantize it on the CPU");
  }
  const bool window = spec.format->rule == ScaleRule::kPow2Window;
  if (window && spec.outer_amax_unknown()) {
    throw InputError("quantize: the GPU kernels of '" + std::string(spec.format->name) +
                     "' need the amax of the tensor before they read it");
  }
  if (spec.hadamard.round_to_bf16) {
    throw InputError("quantize: the GPU kernels do not round the transform's output; quantize it on the CPU");
  }
  const ElementFormat& element = spec.format->element;
  Operand p{};
  p.grid = grid_of(*spec.format);
  p.stochastic = spec.rounding == Rounding::kStochastic;
  p.sign_magnitude = element.code_kind == CodeKind::kSignMagnitude;
  p.largest = element.largest();
  p.reciprocal = 1 / p.largest;
  p.reciprocal_rest = static_cast<float>(1 / static_cast<double>(p.largest) - static_cast<double>(p.reciprocal));
  p.step = element.code_kind == CodeKind::kFullTwosComplement ? 1 : element.levels[1];
  p.index_factor = 1 / p.step;
  if (p.stochastic) p.index_factor *= -(1 - 0x1p-24F);
  for (unsigned code = 0; code < 16; ++code) p.values[code] = code_value(element, code);
  p.level_count = element.level_count;
  for (int i = 0; i < element.level_count; ++i) p.levels[i] = element.levels[static_cast<std::size_t>(i)];
  for (int i = 0; i + 1 < element.level_count; ++i) p.boundaries[i] = boundary(element, i);

  p.hadamard = spec.hadamard.size;
  p.hadamard_scale = p.hadamard == 0 ? 1 : hadamard_scale(p.hadamard);
  std::copy(spec.hadamard.signs.begin(), spec.hadamard.signs.end(), p.signs);
  const auto sign = [&](int i) { return ((p.signs[0] >> i) & 1u) != 0 ? -1.0F : 1.0F; };
  float* relative = p.relative_signs;
  for (int stride = 1; stride < kRun; stride *= 2) {
    for (int i = 0; i < kRun; i += 2 * stride) *relative++ = sign(i) * sign(i + stride);
  }
  p.run_factor = p.hadamard == 0 ? 1 : sign(0) * p.hadamard_scale;
  p.lanes = spec.block_size() / kRun;
  while ((1 << p.lanes_shift) < p.lanes) ++p.lanes_shift;
  p.span = Span::kLanes;
  const bool whole_groups = !p.stochastic || spec.random.column_offset % 8 == 0;
  if (p.grid != Grid::kTable && p.lanes == 1 && p.hadamard <= kRun && whole_groups) p.span = Span::kOneRun;

  p.tensor_amax_at = spec.outer_amax;
  p.tensor_amax = spec.tensor_amax;
  p.tau = reference::tau_of(spec);
  p.round_up = p.tau > 1 ? 0x6FFFFFu : 0x7FFFFFu;
  p.reach_span = std::bit_cast<std::uint32_t>(32 * p.tau) - kLeastReach;

  philox::Key key = philox::make_key(spec.random.seed);
  for (unsigned word = 0; word < 2 * philox::kRounds; word += 2) {
    p.round_keys[word] = key[0];
    p.round_keys[word + 1] = key[1];
    key[0] += philox::kWeyl0;
    key[1] += philox::kWeyl1;
  }
  const std::uint64_t product = std::uint64_t{philox::kMultiplier1} * spec.random.step;
  p.first_x = static_cast<std::uint32_t>(product >> 32) ^ p.round_keys[0];
  p.first_y = static_cast<std::uint32_t>(product);
  p.device_step = spec.random.device_step;
  p.first_z = spec.random.stream ^ p.round_keys[1];
  p.row_offset = spec.random.row_offset;
  p.column_offset = spec.random.column_offset;

  p.codes = task.out.codes;
  p.scales = task.out.scales;
  p.dequantized = task.out.dequantized;
  p.dequantized_f32 = task.out.dequantized_dtype == DType::kF32;
  p.e4m3 = task.out.e4m3;
  if (window) {
    p.packed_scales = task.out.packed_scales;
  } else if (task.out.packed_scales != nullptr) {  // FP32 scales as they are
    if (p.scales != nullptr) throw InputError("quantize: the GPU kernels write scales or packed scales, not both");
    p.scales = reinterpret_cast<float*>(task.out.packed_scales);
  }
  p.output = output_of(p);
  p.amax = task.out.amax;
  p.clipped = task.out.clipped;
  p.only_if = window ? task.only_if : nullptr;
  p.rows = static_cast<std::uint32_t>(shape.rows);
  p.columns = static_cast<std::uint32_t>(shape.columns);
  p.runs_per_row = p.columns / kRun;
  return p;
}

}  // namespace ufp4::cuda
