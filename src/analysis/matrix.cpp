#include "analysis/matrix.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <utility>

#include "analysis/measurement.h"
#include "io/workers.h"
#include "ufp4/backend.h"

namespace ufp4::analysis {
namespace {

// Whole blocks and transforms of any size, about 2^16 values: they stay in a core's cache for all schemes.
std::vector<Rectangle> tiles_of(std::int64_t rows, std::int64_t columns) {
  constexpr std::int64_t kColumns = 1 << 13;  // a multiple of every block and transform
  constexpr std::int64_t kValues = 1 << 16;
  std::vector<Rectangle> tiles;
  if (rows == 0 || columns == 0) return tiles;
  for (std::int64_t c = 0; c < columns; c += kColumns) {
    const std::int64_t width = std::min(kColumns, columns - c);
    const std::int64_t height = std::max<std::int64_t>(1, kValues / width);
    for (std::int64_t r = 0; r < rows; r += height) tiles.push_back({r, c, std::min(height, rows - r), width});
  }
  return tiles;
}

// Runs `work(tile, own state)` for all tiles on some threads, then `merge`s every thread's state, in order of threads.
template <class State, class Work, class Merge>
void for_tiles(const std::vector<Rectangle>& tiles, int threads, const State& initial, const Work& work,
               const Merge& merge) {
  if (tiles.empty()) return;
  const auto count =
      static_cast<std::size_t>(std::clamp<std::int64_t>(threads, 1, static_cast<std::int64_t>(tiles.size())));
  std::vector<State> states(count, initial);
  io::Workers workers(count, [&](std::size_t t) {
    // A fixed share each, so that the sums do not depend on the threads' timing.
    for (std::size_t i = t; i < tiles.size(); i += count) work(tiles[i], states[t]);
  });
  workers.join();
  for (const State& state : states) merge(state);
}

// The schemes after one transform: its result is made once for all of them.
struct Group {
  Hadamard hadamard;
  std::vector<std::size_t> members;  // indices of schemes
};

std::vector<Group> groups_of(const std::vector<Scheme>& schemes, std::uint64_t seed) {
  std::vector<Group> groups;
  for (std::size_t i = 0; i < schemes.size(); ++i) {
    auto found = std::find_if(groups.begin(), groups.end(),
                              [&](const Group& g) { return g.hadamard.size == schemes[i].hadamard; });
    if (found == groups.end()) {
      groups.push_back({make_hadamard(schemes[i].hadamard, seed), {}});
      found = groups.end() - 1;
    }
    found->members.push_back(i);
  }
  return groups;
}

QuantizeSpec spec_of(const Scheme& scheme, const RandomBits& random) {
  QuantizeSpec spec;
  spec.format = scheme.format;
  spec.block = scheme.block;
  spec.rounding = scheme.rounding;
  spec.random = random;
  return spec;
}

// What a thread needs to look at a tile.
struct Buffers {
  std::vector<float> values;
  std::vector<float> transformed;
  MeasurementBuffers measurement;
};

// Values that are not finite become zero and are counted.
std::int64_t load_tile(const MatrixSource& source, const Rectangle& tile, std::vector<float>& values) {
  values.resize(static_cast<std::size_t>(tile.rows * tile.columns));
  source.load(tile, values);
  std::int64_t nonfinite = 0;
  for (float& value : values) {
    const bool finite = std::fabs(value) <= std::numeric_limits<float>::max();
    nonfinite += finite ? 0 : 1;
    value = finite ? value : 0.0F;
  }
  return nonfinite;
}

// In several sums, so that one addition need not wait for the one before.
double sum_of_squares(std::span<const float> values) {
  std::array<double, 8> sums{};
  const std::size_t whole = values.size() / sums.size() * sums.size();
  for (std::size_t i = 0; i < whole; i += sums.size()) {
    for (std::size_t k = 0; k < sums.size(); ++k) {
      const auto value = static_cast<double>(values[i + k]);
      sums[k] += value * value;
    }
  }
  for (std::size_t i = whole; i < values.size(); ++i) {
    sums[0] += static_cast<double>(values[i]) * static_cast<double>(values[i]);
  }
  return std::accumulate(sums.begin(), sums.end(), 0.0);
}

Part transformed_part(const Rectangle& tile, const Hadamard& hadamard, Buffers& buffers) {
  Part part{buffers.values, tile.rows, tile.columns, tile.row, tile.column};
  if (hadamard.size == 0) return part;
  part.columns = transform_rows(part, hadamard, buffers.transformed);
  part.values = buffers.transformed;
  return part;
}

struct AmaxState {
  Buffers buffers;
  std::vector<float> amax;  // by scheme
};

// The second-level amax of every scheme that has one, over the whole matrix; formats of one transform and block share
// it.
std::vector<float> tensor_amax(const MatrixSource& source, const MatrixAnalysis& analysis,
                               const std::vector<Rectangle>& tiles, const std::vector<Group>& groups) {
  std::vector<float> result(analysis.schemes.size(), 0.0F);
  for_tiles(
      tiles, analysis.threads, AmaxState{{}, result},
      [&](const Rectangle& tile, AmaxState& own) {
        load_tile(source, tile, own.buffers.values);
        for (const Group& group : groups) {
          std::vector<std::pair<int, float>> known;  // by block
          Part part{};
          for (const std::size_t i : group.members) {
            const QuantizeSpec spec = spec_of(analysis.schemes[i], {});
            if (!spec.format->has_outer_scale()) continue;
            if (part.rows == 0) part = transformed_part(tile, group.hadamard, own.buffers);
            auto found =
                std::find_if(known.begin(), known.end(), [&](const auto& k) { return k.first == spec.block_size(); });
            if (found == known.end()) {
              const ConstMatrix view{part.values.data(), DType::kF32, part.rows, part.columns, part.columns};
              known.emplace_back(spec.block_size(), default_backend().tensor_amax(view, spec));
              found = known.end() - 1;
            }
            own.amax[i] = std::max(own.amax[i], found->second);
          }
        }
        if (analysis.progress) analysis.progress(tile.rows * tile.columns);
      },
      [&](const AmaxState& own) {
        for (std::size_t i = 0; i < result.size(); ++i) result[i] = std::max(result[i], own.amax[i]);
      });
  return result;
}

// What a thread gathers.
struct Gathered {
  Buffers buffers;
  std::int64_t nonfinite = 0;
  double squares = 0;
  float amax = 0;
  std::vector<FormatMeasurement> measurements;
};

}  // namespace

std::vector<Scheme> schemes_of(std::span<const BlockFormat* const> formats, int hadamard) {
  std::vector<Scheme> schemes;
  for (const BlockFormat* format : formats) {
    schemes.push_back({.format = format});
    if (hadamard != 0) schemes.push_back({.format = format, .hadamard = hadamard});
  }
  return schemes;
}

const Figures* MatrixReport::without_transform(const Scheme& scheme) const {
  Scheme plain = scheme;
  plain.hadamard = 0;
  const auto found =
      std::find_if(schemes.begin(), schemes.end(), [&](const SchemeFigures& s) { return s.scheme == plain; });
  return found == schemes.end() ? nullptr : &found->figures;
}

double gain_db(const Figures& without, const Figures& with) {
  if (without.nmse <= 0 || with.nmse <= 0) return std::numeric_limits<double>::quiet_NaN();
  return 10 * std::log10(without.nmse / with.nmse);
}

void convert_to_float(const std::byte* from, DType dtype, std::span<float> out) {
  if (dtype == DType::kF32) {
    std::memcpy(out.data(), from, out.size_bytes());
    return;
  }
  for (std::size_t i = 0; i < out.size(); ++i) {
    std::uint16_t bits = 0;
    std::memcpy(&bits, from + 2 * i, sizeof bits);
    out[i] = dtype == DType::kBF16 ? bf16_to_float(bits) : f16_to_float(bits);
  }
}

MatrixSource source_of(const ConstMatrix& matrix, Axis axis) {
  const auto at = [matrix](std::int64_t row, std::int64_t column) {
    return static_cast<const std::byte*>(matrix.data) +
           static_cast<std::size_t>(row * matrix.row_stride + column) * size_of(matrix.dtype);
  };
  if (axis == Axis::kRow) {
    return {matrix.rows, matrix.columns, [matrix, at](const Rectangle& part, std::span<float> out) {
              const auto width = static_cast<std::size_t>(part.columns);
              for (std::int64_t r = 0; r < part.rows; ++r) {
                convert_to_float(at(part.row + r, part.column), matrix.dtype,
                                 out.subspan(static_cast<std::size_t>(r) * width, width));
              }
            }};
  }
  return {matrix.columns, matrix.rows, [matrix, at](const Rectangle& part, std::span<float> out) {
            std::vector<float> line(static_cast<std::size_t>(part.rows));
            for (std::int64_t c = 0; c < part.columns; ++c) {
              convert_to_float(at(part.column + c, part.row), matrix.dtype, line);
              for (std::size_t r = 0; r < line.size(); ++r) {
                out[r * static_cast<std::size_t>(part.columns) + static_cast<std::size_t>(c)] = line[r];
              }
            }
          }};
}

int passes(std::span<const Scheme> schemes) {
  const bool twice =
      std::any_of(schemes.begin(), schemes.end(), [](const Scheme& s) { return s.format->has_outer_scale(); });
  return twice ? 2 : 1;
}

MatrixReport analyze_matrix(const MatrixSource& source, const MatrixAnalysis& analysis) {
  const std::vector<Rectangle> tiles = tiles_of(source.rows, source.columns);
  const std::vector<Group> groups = groups_of(analysis.schemes, analysis.hadamard_seed);
  std::vector<float> amax(analysis.schemes.size(), -1.0F);
  if (passes(analysis.schemes) == 2) amax = tensor_amax(source, analysis, tiles, groups);

  Gathered initial;
  for (std::size_t i = 0; i < analysis.schemes.size(); ++i) {
    QuantizeSpec spec = spec_of(analysis.schemes[i], analysis.random);
    spec.tensor_amax = amax[i];
    initial.measurements.emplace_back(spec);
  }
  Gathered all = initial;
  for_tiles(
      tiles, analysis.threads, initial,
      [&](const Rectangle& tile, Gathered& own) {
        own.nonfinite += load_tile(source, tile, own.buffers.values);
        own.squares += sum_of_squares(own.buffers.values);
        for (const float value : own.buffers.values) own.amax = std::max(own.amax, std::fabs(value));
        for (const Group& group : groups) {
          const Part part = transformed_part(tile, group.hadamard, own.buffers);
          for (const std::size_t i : group.members) own.measurements[i].add(part, own.buffers.measurement);
        }
        if (analysis.progress) analysis.progress(tile.rows * tile.columns);
      },
      [&](const Gathered& own) {
        all.nonfinite += own.nonfinite;
        all.squares += own.squares;
        all.amax = std::max(all.amax, own.amax);
        for (std::size_t i = 0; i < all.measurements.size(); ++i) all.measurements[i] += own.measurements[i];
      });

  MatrixReport report;
  report.rows = source.rows;
  report.columns = source.columns;
  report.nonfinite = all.nonfinite;
  report.amax = static_cast<double>(all.amax);
  const std::int64_t finite = report.rows * report.columns - report.nonfinite;
  report.rms = finite > 0 ? std::sqrt(all.squares / static_cast<double>(finite)) : 0;
  for (std::size_t i = 0; i < analysis.schemes.size(); ++i) {
    report.schemes.push_back({analysis.schemes[i], all.measurements[i].figures()});
  }
  return report;
}

}  // namespace ufp4::analysis
