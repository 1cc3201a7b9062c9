#include "quantization/matrix.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <thread>

namespace ufp4::testing {
namespace {

// Small and fast: a step of splitmix64.
std::uint64_t mix(std::uint64_t x) {
  x += 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

// Where an element stands, and what is drawn for it, its row and its patch of 16 x 16.
struct Draw {
  std::uint64_t row;
  std::uint64_t column;
  std::uint64_t bits;
  std::uint64_t row_bits;
  std::uint64_t patch_bits;

  Draw(std::uint64_t seed, std::uint64_t r, std::uint64_t c)
      : row(r),
        column(c),
        bits(mix(mix(seed) ^ (r << 32) ^ c)),
        row_bits(mix(mix(seed + 1) ^ r)),
        patch_bits(mix(mix(seed + 2) ^ (r / 16 << 32) ^ (c / 16))) {}
};

int below(std::uint64_t bits, int count) { return static_cast<int>(bits % static_cast<std::uint64_t>(count)); }

float hostile_row_value(const Draw& draw) {
  if ((draw.column / 32 + draw.row) % 3 == 0) return 0;  // runs that leave blocks alone
  const std::uint64_t other = mix(draw.bits);
  if (other % 40 == 0) return hostile_value(mix(other));
  return std::ldexp(normal_value(draw.bits), below(draw.row_bits, 250) - 125);
}

float patch_value(const Draw& draw) {
  const float x = normal_value(draw.bits);
  const int k = below(draw.bits >> 58, 64);
  switch (draw.patch_bits % 16) {
    case 0: return std::ldexp(x, static_cast<int>(draw.patch_bits >> 58) - 32);
    case 1: return k == 0 ? 14.0F : static_cast<float>(k % 29 - 14) * 0.5F;  // ties of grids up to 7
    case 2: return k == 0 ? 6.0F : static_cast<float>(k % 49 - 24) * 0.25F;  // ties of e2m1
    case 3: return k == 0 ? -7.0F : static_cast<float>(k % 29 - 14) * 0.5F;
    case 4: return std::ldexp(x, -120);
    case 5: return std::ldexp(x, -135);
    case 6: return k % 2 == 0 ? 0.0F : -0.0F;
    case 7: return k == 1 ? std::numeric_limits<float>::infinity() : x;
    case 8: return k == 2 ? std::numeric_limits<float>::quiet_NaN() : x;
    case 9: return x * 1e38F;
    case 10: return k < 2 ? x : 0.0F;
    case 11: return std::ldexp(x, k - 32);
    default: return x;
  }
}

float value_of(Values kind, const Draw& draw) {
  switch (kind) {
    case Values::kNormal: break;
    case Values::kUneven: return std::ldexp(normal_value(draw.bits), below(draw.row_bits, 9) - 4);
    case Values::kTies: return static_cast<float>(below(draw.bits, 57) - 28) * 0.25F;
    case Values::kHostile: return hostile_row_value(draw);
    case Values::kPatches: return patch_value(draw);
  }
  return normal_value(draw.bits);
}

std::uint32_t bits_as(DType dtype, float value) {
  if (dtype == DType::kBF16) return float_to_bf16(value);
  if (dtype == DType::kF16) return float_to_f16(value);
  std::uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

std::size_t place_of(const Matrix& m, std::int64_t row, std::int64_t column) {
  return static_cast<std::size_t>(m.shift + row * m.row_stride + column) * size_of(m.dtype);
}

}  // namespace

Matrix::Matrix(std::int64_t row_count, std::int64_t column_count, DType type, const Layout& layout)
    : dtype(type),
      rows(row_count),
      columns(column_count),
      row_stride(column_count + layout.padding),
      shift(layout.shift),
      bytes(static_cast<std::size_t>(layout.shift + row_count * row_stride) * size_of(type), 0xFF) {
  const auto width = static_cast<std::ptrdiff_t>(static_cast<std::size_t>(columns) * size_of(dtype));
  for (std::int64_t r = 0; r < rows; ++r) {
    std::fill_n(bytes.begin() + static_cast<std::ptrdiff_t>(place_of(*this, r, 0)), width, std::uint8_t{0});
  }
}

float Matrix::get(std::int64_t row, std::int64_t column) const {
  const std::uint8_t* from = bytes.data() + place_of(*this, row, column);
  if (dtype == DType::kF32) {
    float value = 0;
    std::memcpy(&value, from, sizeof value);
    return value;
  }
  std::uint16_t half = 0;
  std::memcpy(&half, from, sizeof half);
  return dtype == DType::kBF16 ? bf16_to_float(half) : f16_to_float(half);
}

void Matrix::set(std::int64_t row, std::int64_t column, float value) { set_bits(row, column, bits_as(dtype, value)); }

void Matrix::set_bits(std::int64_t row, std::int64_t column, std::uint32_t bits) {
  std::memcpy(bytes.data() + place_of(*this, row, column), &bits, size_of(dtype));  // the low bytes come first
}

void Matrix::fill(const std::function<float()>& next) {
  transform([&](float) { return next(); });
}

void Matrix::transform(const std::function<float(float)>& change) {
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < columns; ++c) set(r, c, change(get(r, c)));
  }
}

ConstMatrix Matrix::view(std::int64_t row, std::int64_t column, std::int64_t row_count,
                         std::int64_t column_count) const {
  return {bytes.data() + place_of(*this, row, column), dtype, row_count, column_count, row_stride};
}

ConstMatrix Matrix::view(const void* copy) const {
  return {static_cast<const std::uint8_t*>(copy) + place_of(*this, 0, 0), dtype, rows, columns, row_stride};
}

Matrix make_matrix(std::int64_t rows, std::int64_t columns, DType dtype, Values kind, std::uint64_t seed,
                   const Layout& layout) {
  Matrix m(rows, columns, dtype, layout);
  in_slabs(rows, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t r = first; r < last; ++r) {
      for (std::int64_t c = 0; c < columns; ++c) {
        m.set(r, c, value_of(kind, {seed, static_cast<std::uint64_t>(r), static_cast<std::uint64_t>(c)}));
      }
    }
  });
  return m;
}

// Near enough to a normal variate: the sum of four uniform ones.
float normal_value(std::uint64_t bits) {
  float sum = 0;
  for (int i = 0; i < 4; ++i) sum += static_cast<float>((bits >> (16 * i)) & 0xFFFFu) * 0x1p-16F - 0.5F;
  return sum * 1.7320508F + static_cast<float>(bits & 0xFFu) * 0x1p-20F;
}

float hostile_value(std::uint64_t bits) {
  using Limits = std::numeric_limits<float>;
  constexpr std::array kValues{0.0F,
                               -0.0F,
                               1.0F,
                               Limits::quiet_NaN(),
                               Limits::infinity(),
                               -Limits::infinity(),
                               Limits::max(),
                               -Limits::max(),
                               Limits::denorm_min(),
                               -0x1.8p-140F,
                               0x1p-120F,
                               0x1.fffffep-121F,
                               0x1p-122F,
                               0x1p-126F,
                               0x1p-100F,
                               0x1p100F,
                               0x1.8p-99F,
                               0x1p-90F,
                               -0x1.2p101F};
  return kValues[bits % kValues.size()];
}

Matrix transposed(const Matrix& in) {
  Matrix turned(in.columns, in.rows, in.dtype);
  const std::size_t width = size_of(in.dtype);
  in_slabs(in.columns, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t r = 0; r < in.rows; ++r) {
      for (std::int64_t c = first; c < last; ++c) {
        std::memcpy(turned.bytes.data() + place_of(turned, c, r), in.bytes.data() + place_of(in, r, c), width);
      }
    }
  });
  return turned;
}

Matrix gathered(const Matrix& in, const std::vector<std::uint32_t>& rows) {
  Matrix some(std::ssize(rows), in.columns, in.dtype);
  for (std::int64_t r = 0; r < some.rows; ++r) {
    std::memcpy(some.bytes.data() + place_of(some, r, 0),
                in.bytes.data() + place_of(in, rows[static_cast<std::size_t>(r)], 0),
                static_cast<std::size_t>(in.columns) * size_of(in.dtype));
  }
  return some;
}

void in_slabs(std::int64_t rows, const std::function<void(std::int64_t, std::int64_t)>& f) {
  constexpr std::int64_t kLeast = 128;
  const auto threads = static_cast<std::int64_t>(std::max(1u, std::thread::hardware_concurrency()));
  const std::int64_t slab = std::max(kLeast, (rows / threads + kLeast - 1) / kLeast * kLeast);
  if (rows <= slab) return f(0, rows);
  std::vector<std::jthread> workers;
  for (std::int64_t first = 0; first < rows; first += slab) {
    workers.emplace_back([&f, first, last = std::min(first + slab, rows)] { f(first, last); });
  }
}

}  // namespace ufp4::testing
