#include "analysis/tensor_file.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <exception>
#include <mutex>
#include <thread>

#include "analysis/measurement.h"
#include "ufp4/backend.h"

namespace ufp4::analysis {
namespace {

// A rectangle of a matrix that one thread measures: whole blocks and transforms of any size, about 2^18 values.
struct Tile {
  std::int64_t row = 0, column = 0, rows = 0, columns = 0;
};

std::vector<Tile> tiles_of(std::int64_t rows, std::int64_t columns) {
  constexpr std::int64_t kColumns = 1 << 14;  // a multiple of every block and transform
  constexpr std::int64_t kValues = 1 << 18;
  std::vector<Tile> tiles;
  for (std::int64_t c = 0; c < columns; c += kColumns) {
    const std::int64_t width = std::min(kColumns, columns - c);
    const std::int64_t height = std::max<std::int64_t>(1, kValues / width);
    for (std::int64_t r = 0; r < rows; r += height) tiles.push_back({r, c, std::min(height, rows - r), width});
  }
  return tiles;
}

// What all threads gather of one tensor.
struct Gathered {
  std::int64_t nonfinite = 0;
  double squares = 0;
  double amax = 0;
  std::vector<FormatMeasurement> measurements;
  std::vector<float> tensor_amax;  // by scheme, first pass
};

// Reads a tile as FP32; values that are not finite become zero and are counted.
std::int64_t load_tile(const io::SafetensorsReader& file, const io::TensorInfo& tensor, DType dtype,
                       std::int64_t columns, const Tile& tile, std::vector<std::byte>& raw,
                       std::vector<float>& values) {
  const std::size_t size = size_of(dtype);
  const auto width = static_cast<std::size_t>(tile.columns);
  raw.resize(width * size);
  values.resize(static_cast<std::size_t>(tile.rows) * width);
  std::int64_t nonfinite = 0;
  for (std::int64_t r = 0; r < tile.rows; ++r) {
    file.read(tensor, static_cast<std::uint64_t>((tile.row + r) * columns + tile.column) * size, raw);
    float* row = values.data() + static_cast<std::size_t>(r) * width;
    for (std::size_t c = 0; c < width; ++c) {
      if (dtype == DType::kF32) {
        std::memcpy(row + c, raw.data() + c * size, size);
      } else {
        std::uint16_t bits = 0;
        std::memcpy(&bits, raw.data() + c * size, size);
        row[c] = dtype == DType::kBF16 ? bf16_to_float(bits) : f16_to_float(bits);
      }
      if (!std::isfinite(row[c])) {
        row[c] = 0;
        ++nonfinite;
      }
    }
  }
  return nonfinite;
}

// Runs `work(tile, own state)` for all tiles on some threads, then `merge`s every thread's state, in order of threads.
template <class State, class Work, class Merge>
void for_tiles(const std::vector<Tile>& tiles, int threads, const State& initial, const Work& work,
               const Merge& merge) {
  const auto count =
      static_cast<std::size_t>(std::clamp<std::int64_t>(threads, 1, static_cast<std::int64_t>(tiles.size())));
  std::vector<State> states(count, initial);
  std::exception_ptr failure;
  std::mutex mutex;
  {
    std::vector<std::jthread> pool;
    for (std::size_t t = 0; t < count; ++t) {
      pool.emplace_back([&, t] {
        try {
          // A fixed share each, so that the sums do not depend on the threads' timing.
          for (std::size_t i = t; i < tiles.size(); i += count) work(tiles[i], states[t]);
        } catch (...) {
          const std::lock_guard lock(mutex);
          if (!failure) failure = std::current_exception();
        }
      });
    }
  }
  if (failure) std::rethrow_exception(failure);
  for (const State& state : states) merge(state);
}

std::vector<QuantizeSpec> specs_of(const FileAnalysis& analysis) {
  std::vector<QuantizeSpec> specs;
  for (const Scheme& scheme : analysis.schemes) {
    QuantizeSpec spec;
    spec.format = scheme.format;
    spec.hadamard = make_hadamard(scheme.hadamard, analysis.seed);
    specs.push_back(spec);
  }
  return specs;
}

bool needs_amax(const FileAnalysis& analysis) {
  return std::any_of(analysis.schemes.begin(), analysis.schemes.end(),
                     [](const Scheme& s) { return s.format->has_global_scale(); });
}

bool is_float_matrix(const io::TensorInfo& tensor) {
  return tensor.shape.size() >= 2 && io::float_type(tensor.type).has_value();
}

std::string describe(const io::TensorInfo& tensor) {
  std::string shape;
  for (const std::int64_t extent : tensor.shape) {
    if (!shape.empty()) shape += ", ";
    shape += std::to_string(extent);
  }
  return tensor.name + ": " + std::string(io::name_of(tensor.type)) + " [" + shape + "]";
}

}  // namespace

std::uint64_t bytes_to_read(const io::SafetensorsReader& file, const FileAnalysis& analysis) {
  std::uint64_t bytes = 0;
  for (const io::TensorInfo& tensor : file.tensors()) {
    if (is_float_matrix(tensor)) bytes += tensor.end - tensor.begin;
  }
  return needs_amax(analysis) ? 2 * bytes : bytes;
}

FileReport analyze_file(const io::SafetensorsReader& file, const FileAnalysis& analysis) {
  FileReport report;
  std::atomic<std::uint64_t> done{0};
  std::mutex progress_mutex;
  const auto advance = [&](const Tile& tile, DType dtype) {
    done += static_cast<std::uint64_t>(tile.rows * tile.columns) * size_of(dtype);
    if (!analysis.progress) return;
    const std::lock_guard lock(progress_mutex);
    analysis.progress(done);
  };

  for (const io::TensorInfo& tensor : file.tensors()) {
    if (!is_float_matrix(tensor)) {
      report.skipped.push_back(describe(tensor));
      continue;
    }
    const DType dtype = *io::float_type(tensor.type);
    const std::int64_t columns = tensor.shape.back();
    std::int64_t rows = 1;
    for (std::size_t i = 0; i + 1 < tensor.shape.size(); ++i) rows *= tensor.shape[i];
    const std::vector<Tile> tiles = rows == 0 || columns == 0 ? std::vector<Tile>() : tiles_of(rows, columns);

    std::vector<QuantizeSpec> specs = specs_of(analysis);
    if (needs_amax(analysis) && !tiles.empty()) {
      std::vector<float> amax(specs.size(), 0.0F);
      for_tiles(
          tiles, analysis.threads, amax,
          [&](const Tile& tile, std::vector<float>& own) {
            std::vector<std::byte> raw;
            std::vector<float> values;
            load_tile(file, tensor, dtype, columns, tile, raw, values);
            const ConstMatrix view{values.data(), DType::kF32, tile.rows, tile.columns, tile.columns};
            for (std::size_t i = 0; i < specs.size(); ++i) {
              if (specs[i].format->has_global_scale()) {
                own[i] = std::max(own[i], default_backend().tensor_amax(view, specs[i]));
              }
            }
            advance(tile, dtype);
          },
          [&](const std::vector<float>& own) {
            for (std::size_t i = 0; i < specs.size(); ++i)
              specs[i].tensor_amax = std::max({specs[i].tensor_amax, own[i], 0.0F});
          });
    }

    Gathered initial;
    for (const QuantizeSpec& spec : specs) initial.measurements.emplace_back(spec);
    Gathered all = initial;
    if (!tiles.empty()) {
      for_tiles(
          tiles, analysis.threads, initial,
          [&](const Tile& tile, Gathered& own) {
            std::vector<std::byte> raw;
            std::vector<float> values;
            own.nonfinite += load_tile(file, tensor, dtype, columns, tile, raw, values);
            for (const float value : values) {
              const auto magnitude = std::fabs(static_cast<double>(value));
              own.squares += magnitude * magnitude;
              own.amax = std::max(own.amax, magnitude);
            }
            for (FormatMeasurement& m : own.measurements) m.add(values, tile.rows, tile.columns);
            advance(tile, dtype);
          },
          [&](const Gathered& own) {
            all.nonfinite += own.nonfinite;
            all.squares += own.squares;
            all.amax = std::max(all.amax, own.amax);
            for (std::size_t i = 0; i < specs.size(); ++i) all.measurements[i] += own.measurements[i];
          });
    }

    TensorReport entry{tensor.name, std::string(io::name_of(tensor.type)), rows, columns, all.nonfinite, 0, all.amax,
                       {}};
    const std::int64_t finite = rows * columns - all.nonfinite;
    entry.rms = finite > 0 ? std::sqrt(all.squares / static_cast<double>(finite)) : 0;
    for (std::size_t i = 0; i < specs.size(); ++i) {
      entry.schemes.push_back({analysis.schemes[i], all.measurements[i].figures()});
    }
    report.tensors.push_back(std::move(entry));
  }
  return report;
}

}  // namespace ufp4::analysis
