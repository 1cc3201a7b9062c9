#include "analysis/measurement.h"

#include <algorithm>
#include <cmath>

#include "numerics/hadamard.h"
#include "ufp4/backend.h"

namespace ufp4::analysis {
namespace {

// Whether a code is one of the format's distinct values: no negative zero, no level beyond the last, -8 for full
// elements alone.
bool in_use(const ElementFormat& element, unsigned code) {
  if (code == 8) return element.code_kind == CodeKind::kFullTwosComplement;
  const unsigned index = code < 8 ? code : element.code_kind == CodeKind::kSignMagnitude ? code - 8 : 16 - code;
  return static_cast<int>(index) < element.level_count;
}

}  // namespace

FormatMeasurement::FormatMeasurement(const QuantizeSpec& spec) : spec_(spec) { spec_.axis = Axis::kRow; }

void FormatMeasurement::add(std::span<const float> values, std::int64_t rows, std::int64_t columns) {
  const QuantizedShape shape = quantized_shape(rows, columns, spec_);
  const auto padded = static_cast<std::size_t>(shape.columns);
  const auto total = static_cast<std::size_t>(shape.rows) * padded;
  std::vector<float> image(total);
  std::vector<float> scales(static_cast<std::size_t>(shape.rows * shape.scales_per_row));
  std::vector<std::uint8_t> codes(total / 2);
  float global = 1;
  QuantizeTask task{spec_, {}};
  task.out.codes = codes.data();
  task.out.scales = scales.data();
  task.out.dequantized = image.data();
  task.out.dequantized_dtype = DType::kF32;
  task.out.global_scale = &global;
  default_backend().quantize({values.data(), DType::kF32, rows, columns, columns}, {&task, 1});

  const BlockFormat& format = *spec_.format;
  const auto block = static_cast<std::size_t>(spec_.block_size());
  const auto n = static_cast<std::size_t>(spec_.hadamard.size);
  const auto counted = n == 0 ? static_cast<std::size_t>(columns) : padded;
  std::array<double, 16> level{};
  for (unsigned code = 0; code < 16; ++code)
    level[code] = std::fabs(static_cast<double>(code_value(format.element, code)));
  const double largest = static_cast<double>(format.element.largest()) * (1 + 1e-6);  // more than rounding
  const bool full = format.element.code_kind == CodeKind::kFullTwosComplement;
  const double most_negative = full ? largest + static_cast<double>(format.element.levels[1]) : largest;
  std::vector<float> row(padded);
  for (std::size_t r = 0; r < static_cast<std::size_t>(rows); ++r) {
    const auto source = values.subspan(r * static_cast<std::size_t>(columns), static_cast<std::size_t>(columns));
    std::fill(std::copy(source.begin(), source.end(), row.begin()), row.end(), 0.0F);
    for (std::size_t c = 0; n != 0 && c < padded; c += n) apply_hadamard(std::span(row).subspan(c, n), spec_.hadamard);
    for (std::size_t c = 0; c < counted; ++c) {
      const std::size_t i = r * padded + c;
      const unsigned code = (codes[i / 2] >> (4 * (i % 2))) & 0xFu;
      const double x = static_cast<double>(row[c]);
      sums_.add(x, static_cast<double>(image[i]));
      const double scale = static_cast<double>(scales[i / block]) * static_cast<double>(global);  // may be negative
      const double t = scale == 0 ? 0 : x / scale;
      code_count_[code] += 1;
      code_error_[code] += level[code] - std::fabs(t);
      if (t > largest || -t > most_negative) clamped_ += 1;
    }
  }
}

FormatMeasurement& FormatMeasurement::operator+=(const FormatMeasurement& other) {
  sums_ += other.sums_;
  for (std::size_t code = 0; code < 16; ++code) {
    code_count_[code] += other.code_count_[code];
    code_error_[code] += other.code_error_[code];
  }
  clamped_ += other.clamped_;
  return *this;
}

Figures FormatMeasurement::figures() const {
  Figures figures;
  figures.alpha = sums_.alpha();
  figures.nmse = sums_.nmse();
  const double total = std::max<double>(1, static_cast<double>(sums_.count));
  figures.zero_share = code_count_[0] / total;
  const BlockFormat& format = *spec_.format;
  std::vector<double> shares;
  std::array<double, 9> count{};
  std::array<double, 9> error{};
  for (unsigned code = 0; code < 16; ++code) {
    if (!in_use(format.element, code)) continue;
    shares.push_back(code_count_[code] / total);
    const bool magnitude = format.element.code_kind == CodeKind::kSignMagnitude;
    const unsigned index = code <= 8 && !(magnitude && code == 8) ? code : magnitude ? code - 8 : 16 - code;
    count[index] += code_count_[code];
    error[index] += code_error_[code];
  }
  figures.bucket_ratio = effective_bucket_ratio(shares);
  if (format.selector_block != 0) return figures;  // a code means another value in another block
  figures.clamped_share = clamped_ / total;
  const bool full = format.element.code_kind == CodeKind::kFullTwosComplement;
  const std::size_t levels = static_cast<std::size_t>(format.element.level_count) + (full ? 1 : 0);
  for (std::size_t k = 0; k < levels; ++k) {
    figures.level_share.push_back(count[k] / total);
    figures.level_mean_error.push_back(count[k] > 0 ? error[k] / count[k] : 0);
  }
  return figures;
}

}  // namespace ufp4::analysis
