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
#include "numerics/scale_rules.h"
#include "ufp4/backend.h"

namespace ufp4::analysis {
namespace {

// Whole blocks and transforms of any size, about 2^16 values: they stay in a core's cache for all schemes. `rows_each`:
// rows that share a scale and so must not be parted.
std::vector<Rectangle> tiles_of(std::int64_t rows, std::int64_t columns, std::int64_t rows_each) {
  constexpr std::int64_t kColumns = 1 << 13;  // a multiple of every block and transform
  constexpr std::int64_t kValues = 1 << 16;
  std::vector<Rectangle> tiles;
  if (rows == 0 || columns == 0) return tiles;
  for (std::int64_t c = 0; c < columns; c += kColumns) {
    const std::int64_t width = std::min(kColumns, columns - c);
    const std::int64_t fitting = std::max<std::int64_t>(1, kValues / width);
    const std::int64_t height = (fitting + rows_each - 1) / rows_each * rows_each;
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

std::vector<Group> groups_of(const MatrixAnalysis& analysis) {
  std::vector<Group> groups;
  for (std::size_t i = 0; i < analysis.schemes.size(); ++i) {
    const OperandSpec& scheme = analysis.schemes[i];
    Hadamard hadamard = scheme.hadamard;
    if (hadamard.size != 0) hadamard.signs = signs_of(scheme, analysis.place);
    auto found = std::find_if(groups.begin(), groups.end(), [&](const Group& g) { return g.hadamard == hadamard; });
    if (found == groups.end()) {
      groups.push_back({hadamard, {}});
      found = groups.end() - 1;
    }
    found->members.push_back(i);
  }
  return groups;
}

// Whether the scale of a tile's blocks follows from values beyond the tile.
bool needs_pass(const OperandSpec& scheme) {
  const OuterScale each = scheme.outer_each();
  return scheme.format->has_outer_scale() && (each == OuterScale::kTensor || each == OuterScale::kRow);
}

// How many such values a scheme has for a matrix of so many rows.
std::size_t amax_count(const OperandSpec& scheme, std::int64_t rows) {
  if (!needs_pass(scheme)) return 0;
  return scheme.outer_each() == OuterScale::kTensor ? 1 : static_cast<std::size_t>(rows);
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

// By scheme, [amax_count]: the magnitudes that its second-level scales follow from.
using Amax = std::vector<std::vector<float>>;

struct AmaxState {
  Buffers buffers;
  Amax amax;
};

void raise(Amax& amax, const Amax& own) {
  for (std::size_t i = 0; i < amax.size(); ++i) {
    std::transform(own[i].begin(), own[i].end(), amax[i].begin(), amax[i].begin(),
                   [](float a, float b) { return reference::raised(a, b); });
  }
}

// Of every scheme that needs the pass, over the whole matrix; schemes of one transform, block and granularity share it.
Amax outer_amax(const MatrixSource& source, const MatrixAnalysis& analysis, const std::vector<Rectangle>& tiles,
                const std::vector<Group>& groups) {
  Amax result;
  for (const OperandSpec& scheme : analysis.schemes) result.emplace_back(amax_count(scheme, source.rows), 0.0F);
  for_tiles(
      tiles, analysis.threads, AmaxState{{}, result},
      [&](const Rectangle& tile, AmaxState& own) {
        load_tile(source, tile, own.buffers.values);
        for (const Group& group : groups) {
          std::vector<std::pair<OperandSpec, std::vector<float>>> known;
          Part part{};
          for (const std::size_t i : group.members) {
            OperandSpec spec = analysis.schemes[i];
            if (!needs_pass(spec)) continue;
            if (part.rows == 0) part = transformed_part(tile, group.hadamard, own.buffers);
            spec.hadamard = {};
            auto found = std::find_if(known.begin(), known.end(), [&](const auto& k) {
              return k.first.block_size() == spec.block_size() && k.first.outer_each() == spec.outer_each() &&
                     k.first.format->outer_of_extremes() == spec.format->outer_of_extremes();
            });
            if (found == known.end()) {
              const ConstMatrix view{part.values.data(), DType::kF32, part.rows, part.columns, part.columns};
              known.emplace_back(spec, std::vector<float>(amax_count(spec, part.rows), 0.0F));
              found = known.end() - 1;
              default_backend().raise_outer_amax(view, spec, {}, {0, part.rows}, found->second.data());
            }
            const std::size_t at = spec.outer_each() == OuterScale::kRow ? static_cast<std::size_t>(tile.row) : 0;
            for (std::size_t k = 0; k < found->second.size(); ++k) {
              own.amax[i][at + k] = reference::raised(own.amax[i][at + k], found->second[k]);
            }
          }
        }
        if (analysis.progress) analysis.progress(tile.rows * tile.columns);
      },
      [&](const AmaxState& own) { raise(result, own.amax); });
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

std::vector<OperandSpec> schemes_of(std::span<const BlockFormat* const> formats, int hadamard) {
  std::vector<OperandSpec> schemes;
  for (const BlockFormat* format : formats) {
    schemes.push_back({.format = format});
    if (hadamard != 0) schemes.push_back({.format = format, .hadamard = {.size = hadamard}});
  }
  return schemes;
}

const Figures* MatrixReport::without_transform(const OperandSpec& scheme) const {
  OperandSpec plain = scheme;
  plain.hadamard = {};
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

int passes(std::span<const OperandSpec> schemes) {
  return std::any_of(schemes.begin(), schemes.end(), needs_pass) ? 2 : 1;
}

MatrixReport analyze_matrix(const MatrixSource& source, const MatrixAnalysis& analysis) {
  const bool squares = std::any_of(analysis.schemes.begin(), analysis.schemes.end(), [](const OperandSpec& scheme) {
    return scheme.outer_each() == OuterScale::k128x128;
  });
  const std::vector<Rectangle> tiles = tiles_of(source.rows, source.columns, squares ? 128 : 1);
  const std::vector<Group> groups = groups_of(analysis);
  Amax amax(analysis.schemes.size());
  if (passes(analysis.schemes) == 2) amax = outer_amax(source, analysis, tiles, groups);

  Gathered initial;
  for (std::size_t i = 0; i < analysis.schemes.size(); ++i) {
    initial.measurements.emplace_back(analysis.schemes[i], analysis.place, amax[i]);
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
