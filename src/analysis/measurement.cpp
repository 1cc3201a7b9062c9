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

// What a block adds, in lanes so that the compiler can keep several sums at once.
constexpr std::size_t kLanes = 4;
struct BlockSums {
  std::array<double, kLanes> xx{}, xq{}, qq{}, clamped{};
  std::array<std::array<double, 16>, kLanes> magnitude{};
  std::array<std::array<std::uint32_t, 16>, kLanes> count{};
};

// Values x of a block, their images q and codes; `inverse` is 1 / scale, `low` and `high` what the levels reach.
struct BlockValues {
  const float* x;
  const float* q;
  const std::uint8_t* codes;
  double inverse, low, high;
};

// `count` is a multiple of the lanes.
inline void add_block(const BlockValues& v, std::size_t count, BlockSums& sums) {
  for (std::size_t i = 0; i < count; i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      const auto x = static_cast<double>(v.x[i + lane]);
      const auto q = static_cast<double>(v.q[i + lane]);
      const double t = x * v.inverse;
      sums.xx[lane] += x * x;
      sums.xq[lane] += x * q;
      sums.qq[lane] += q * q;
      sums.clamped[lane] += t > v.high || t < v.low ? 1 : 0;
      const unsigned code = (v.codes[(i + lane) / 2] >> (4 * (lane % 2))) & 0xFu;
      sums.magnitude[lane][code] += std::fabs(t);
      ++sums.count[lane][code];
    }
  }
}

}  // namespace

std::int64_t transform_rows(const Part& part, const Hadamard& hadamard, std::vector<float>& out) {
  const std::int64_t run = std::max(1, hadamard.size);
  const std::int64_t padded = (part.columns + run - 1) / run * run;
  out.assign(static_cast<std::size_t>(part.rows * padded), 0.0F);
  for (std::int64_t r = 0; r < part.rows; ++r) {
    const auto source =
        part.values.subspan(static_cast<std::size_t>(r * part.columns), static_cast<std::size_t>(part.columns));
    const auto row = std::span(out).subspan(static_cast<std::size_t>(r * padded), static_cast<std::size_t>(padded));
    std::copy(source.begin(), source.end(), row.begin());
    for (std::size_t c = 0; hadamard.size != 0 && c < row.size(); c += static_cast<std::size_t>(run)) {
      apply_hadamard(row.subspan(c, static_cast<std::size_t>(run)), hadamard);
    }
  }
  return padded;
}

FormatMeasurement::FormatMeasurement(const QuantizeSpec& spec) : spec_(spec) {
  spec_.axis = Axis::kRow;
  spec_.hadamard = {};
}

void FormatMeasurement::add(const Part& part, MeasurementBuffers& buffers) {
  QuantizeTask task{spec_, {}};
  task.spec.random.row_offset += static_cast<std::uint32_t>(part.row);
  task.spec.random.column_offset += static_cast<std::uint32_t>(part.column);
  const QuantizedShape shape = quantized_shape(part.rows, part.columns, task.spec);
  const auto padded = static_cast<std::size_t>(shape.columns);
  const auto total = static_cast<std::size_t>(shape.rows) * padded;
  buffers.image.resize(total);
  buffers.scales.resize(static_cast<std::size_t>(shape.rows * shape.scales_per_row));
  buffers.codes.resize(total / 2);
  float global = 1;
  task.out.codes = buffers.codes.data();
  task.out.scales = buffers.scales.data();
  task.out.dequantized = buffers.image.data();
  task.out.dequantized_dtype = DType::kF32;
  task.out.global_scale = &global;
  default_backend().quantize({part.values.data(), DType::kF32, part.rows, part.columns, part.columns}, {&task, 1});

  const ElementFormat& element = spec_.format->element;
  const auto block = static_cast<std::size_t>(spec_.block_size());
  const auto columns = static_cast<std::size_t>(part.columns);
  const double largest = static_cast<double>(element.largest()) * (1 + 1e-6);  // more than rounding
  const bool full = element.code_kind == CodeKind::kFullTwosComplement;
  const double most_negative = full ? largest + static_cast<double>(element.levels[1]) : largest;
  BlockSums sums;
  std::array<float, 128> last_x{};  // of a row whose last block is not whole: values, then zeros
  for (std::size_t r = 0; r < static_cast<std::size_t>(part.rows); ++r) {
    const float* x = part.values.data() + r * columns;
    for (std::size_t c = 0; c < columns; c += block) {
      const std::size_t i = r * padded + c;
      const double scale = static_cast<double>(buffers.scales[i / block]) * static_cast<double>(global);  // signed
      if (!std::isfinite(scale)) continue;  // finite values whose transform is not
      BlockValues values{
          x + c,  buffers.image.data() + i, buffers.codes.data() + i / 2, scale == 0 ? 0 : 1 / scale, -most_negative,
          largest};
      const std::size_t count = std::min(block, columns - c);
      sums_.count += static_cast<std::int64_t>(count);
      if (count == 16) {
        add_block(values, 16, sums);
      } else if (count % kLanes == 0) {
        add_block(values, count, sums);
      } else {
        std::copy_n(x + c, count, last_x.begin());
        std::fill(last_x.begin() + static_cast<std::ptrdiff_t>(count), last_x.end(), 0.0F);
        values.x = last_x.data();
        const std::size_t whole = (count + kLanes - 1) / kLanes * kLanes;
        add_block(values, whole, sums);
        for (std::size_t lane = count % kLanes; lane < kLanes; ++lane) --sums.count[lane][0];  // zeros beyond the row
      }
    }
  }
  for (std::size_t lane = 0; lane < kLanes; ++lane) {
    sums_.xx += sums.xx[lane];
    sums_.xq += sums.xq[lane];
    sums_.qq += sums.qq[lane];
    clamped_ += sums.clamped[lane];
    for (std::size_t code = 0; code < 16; ++code) {
      code_count_[code] += sums.count[lane][code];
      code_magnitude_[code] += sums.magnitude[lane][code];
    }
  }
}

FormatMeasurement& FormatMeasurement::operator+=(const FormatMeasurement& other) {
  sums_ += other.sums_;
  for (std::size_t code = 0; code < 16; ++code) {
    code_count_[code] += other.code_count_[code];
    code_magnitude_[code] += other.code_magnitude_[code];
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
    const auto level = std::fabs(static_cast<double>(code_value(format.element, code)));
    error[index] += level * code_count_[code] - code_magnitude_[code];
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
