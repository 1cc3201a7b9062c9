#include "analysis/measurement.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "analysis/transform.h"
#include "ufp4/backend.h"

namespace ufp4::analysis {
namespace {

// As CodeSums counts: of a negative zero that of zero.
unsigned level_index(const ElementFormat& element, unsigned code) {
  return element.code_kind == CodeKind::kSignMagnitude ? code & 7u : std::min(code, 16 - code);
}

// Whether a code is one of the format's distinct values: no negative zero, no level beyond the last, -8 for full
// elements alone.
bool in_use(const ElementFormat& element, unsigned code) {
  if (code == 8) return element.code_kind == CodeKind::kFullTwosComplement;
  return static_cast<int>(level_index(element, code)) < element.level_count;
}

// What |x| / scale may reach before it counts as clamped: the largest level, and more than rounding.
constexpr float kBeyond = 1 + 1e-6F;

}  // namespace

std::int64_t transform_rows(const Part& part, const Hadamard& hadamard, std::vector<float>& out) {
  const std::int64_t run = std::max(1, hadamard.size);
  const std::int64_t padded = (part.columns + run - 1) / run * run;
  out.resize(static_cast<std::size_t>(part.rows * padded));
  for (std::int64_t r = 0; r < part.rows; ++r) {
    float* row = out.data() + r * padded;
    std::copy_n(part.values.data() + r * part.columns, part.columns, row);
    std::fill(row + part.columns, row + padded, 0.0F);
    transform_runs({row, static_cast<std::size_t>(padded)}, hadamard);
  }
  return padded;
}

FormatMeasurement::FormatMeasurement(const OperandSpec& spec, const Place& place, std::span<const float> outer_amax)
    : spec_(spec), place_(place), outer_amax_(outer_amax) {
  spec_.hadamard = {};
  place_.axis = Axis::kRow;
}

void FormatMeasurement::add(const Part& part, MeasurementBuffers& buffers) {
  QuantizeTask task{spec_, place_, {}, nullptr};
  task.place.row_offset += static_cast<std::uint32_t>(part.row);
  task.place.column_offset += static_cast<std::uint32_t>(part.column);
  if (!outer_amax_.empty()) {
    task.outer_amax = outer_amax_.data() + (spec_.outer_each() == OuterScale::kRow ? part.row : 0);
  }
  const QuantizedShape shape = quantized_shape(part.rows, part.columns, task.spec, Axis::kRow);
  const auto padded = static_cast<std::size_t>(shape.columns);
  const auto total = static_cast<std::size_t>(shape.rows) * padded;
  buffers.image.resize(total);
  buffers.scales.resize(static_cast<std::size_t>(shape.rows * shape.scales_per_row));
  buffers.codes.resize(total / 2);
  const OuterShape outer = outer_shape(shape, spec_.outer_each());
  buffers.outer_scales.assign(static_cast<std::size_t>(outer.rows * outer.columns), 1.0F);
  task.out.codes = buffers.codes.data();
  task.out.scales = buffers.scales.data();
  task.out.dequantized = buffers.image.data();
  task.out.dequantized_dtype = DType::kF32;
  task.out.outer_scales = buffers.outer_scales.data();
  default_backend().quantize({part.values.data(), DType::kF32, part.rows, part.columns, part.columns}, {&task, 1});

  // Scales are signed. 0: of a block without one; NaN: of finite values whose transform is not. Where the second level
  // does not stay apart they have it in them.
  const bool apart = spec_.format->outer_stays_apart(spec_.outer_each());
  const std::int64_t block = spec_.block_size();
  buffers.inverse_scales.resize(buffers.scales.size());
  for (std::size_t i = 0; i < buffers.scales.size(); ++i) {
    const std::int64_t at = static_cast<std::int64_t>(i) * block;
    const auto number = static_cast<std::size_t>(outer.index(at / shape.columns, at % shape.columns));
    const double second = apart ? static_cast<double>(buffers.outer_scales[number]) : 1.0;
    const double scale = static_cast<double>(buffers.scales[i]) * second;
    buffers.inverse_scales[i] = !std::isfinite(scale) ? std::numeric_limits<double>::quiet_NaN()
                                : scale == 0          ? 0
                                                      : 1 / scale;
  }
  if (shape.columns == part.columns) {  // rows that follow one another like blocks of one
    add_row(part.values.data(), part.rows * part.columns, 0, buffers);
    return;
  }
  for (std::int64_t r = 0; r < part.rows; ++r) {
    add_row(part.values.data() + r * part.columns, part.columns, static_cast<std::size_t>(r) * padded, buffers);
  }
}

// `at`: where the row's image begins.
void FormatMeasurement::add_row(const float* values, std::int64_t columns, std::size_t at,
                                MeasurementBuffers& buffers) {
  const ElementFormat& element = spec_.format->element;
  const auto block = static_cast<std::size_t>(spec_.block_size());
  const bool full = element.code_kind == CodeKind::kFullTwosComplement;
  const float most = element.largest() * kBeyond;
  CodedBlocks blocks{
      .block = block, .kind = element.code_kind, .least = full ? -(most + element.levels[1]) : -most, .most = most};
  // Blocks first .. last - 1, whose values lie at `x`.
  const auto add_blocks = [&](const float* x, std::size_t first, std::size_t last) {
    if (first == last) return;
    blocks.values = x;
    blocks.images = buffers.image.data() + at + first * block;
    blocks.codes = buffers.codes.data() + (at + first * block) / 2;
    blocks.inverse_scales = buffers.inverse_scales.data() + at / block + first;
    blocks.blocks = last - first;
    analysis::add(blocks, sums_);
  };
  const std::size_t whole = static_cast<std::size_t>(columns) / block;
  const double* inverse = buffers.inverse_scales.data() + at / block;
  std::size_t first = 0;
  for (std::size_t b = 0; b < whole; ++b) {
    if (!std::isnan(inverse[b])) continue;
    add_blocks(values + first * block, first, b);
    first = b + 1;
  }
  add_blocks(values + first * block, first, whole);

  const std::size_t rest = static_cast<std::size_t>(columns) - whole * block;
  if (rest == 0 || std::isnan(inverse[whole])) return;
  std::array<float, 128> last{};  // values, then zeros, which are not counted
  std::copy_n(values + whole * block, rest, last.begin());
  add_blocks(last.data(), whole, whole + 1);
  sums_.count[0] -= static_cast<std::int64_t>(block - rest);
}

FormatMeasurement& FormatMeasurement::operator+=(const FormatMeasurement& other) {
  sums_ += other.sums_;
  return *this;
}

Figures FormatMeasurement::figures() const {
  Figures figures;
  figures.alpha = sums_.alpha();
  figures.nmse = sums_.nmse();
  const auto values = std::accumulate(sums_.count.begin(), sums_.count.end(), std::int64_t{0});
  const auto total = static_cast<double>(std::max<std::int64_t>(1, values));
  figures.zero_share = static_cast<double>(sums_.count[0]) / total;
  const BlockFormat& format = *spec_.format;
  const ElementFormat& element = format.element;
  std::vector<double> shares;
  std::array<double, 9> count{};
  std::array<double, 9> error{};  // sum of level - |x| / scale
  for (unsigned code = 0; code < 16; ++code) {
    if (!in_use(element, code)) continue;
    const auto times = static_cast<double>(sums_.count[code]);
    shares.push_back(times / total);
    const std::size_t index = level_index(element, code);
    count[index] += times;
    error[index] += std::fabs(static_cast<double>(code_value(element, code))) * times;
  }
  for (std::size_t k = 0; k < error.size(); ++k) error[k] -= sums_.magnitude[k];
  figures.bucket_ratio = effective_bucket_ratio(shares);
  if (format.selector_block != 0) return figures;  // a code means another value in another block
  figures.clamped_share = static_cast<double>(sums_.clamped) / total;
  const bool full = format.element.code_kind == CodeKind::kFullTwosComplement;
  const std::size_t levels = static_cast<std::size_t>(format.element.level_count) + (full ? 1 : 0);
  for (std::size_t k = 0; k < levels; ++k) {
    figures.level_share.push_back(count[k] / total);
    figures.level_mean_error.push_back(count[k] > 0 ? error[k] / count[k] : 0);
  }
  return figures;
}

}  // namespace ufp4::analysis
