#include "analysis/sampling.h"

#include <algorithm>
#include <array>

#include "analysis/measurement.h"
#include "io/workers.h"

namespace ufp4::analysis {
namespace {

constexpr std::int64_t kColumns = 4096;
constexpr std::int64_t kRows = 64;  // of a part
constexpr std::int64_t kValues = kRows * kColumns;
// Sums are added up in this many, whatever the threads.
constexpr std::int64_t kShares = 16;

using Measurements = std::vector<FormatMeasurement>;

// Parts number share, share + kShares, ..
void measure_share(std::int64_t share, std::int64_t parts, const Distribution& distribution, std::uint64_t seed,
                   std::span<const OperandSpec> specs, Measurements& measurements) {
  std::vector<float> values(static_cast<std::size_t>(kValues));
  std::vector<float> transformed;
  MeasurementBuffers buffers;
  for (std::int64_t part = share; part < parts; part += kShares) {
    distribution.sample(values, seed, static_cast<std::uint64_t>(part * kValues));
    for (std::size_t i = 0; i < specs.size(); ++i) {
      Hadamard hadamard = specs[i].hadamard;
      hadamard.signs = signs_of(specs[i], {});
      const std::int64_t columns = transform_rows({values, kRows, kColumns}, hadamard, transformed);
      measurements[i].add({transformed, kRows, columns}, buffers);
    }
  }
}

}  // namespace

std::vector<Figures> sampled_figures(std::span<const OperandSpec> specs, const Distribution& distribution,
                                     std::int64_t count, std::uint64_t seed, int threads) {
  Measurements none;
  for (const OperandSpec& spec : specs) none.emplace_back(spec, Place{}, std::span<const float>());
  std::array<Measurements, kShares> shares;
  shares.fill(none);
  const std::int64_t parts = (count + kValues - 1) / kValues;
  const auto count_of_workers = static_cast<std::size_t>(threads);
  io::Workers workers(count_of_workers, [&](std::size_t t) {
    for (std::size_t share = t; share < kShares; share += count_of_workers) {
      measure_share(static_cast<std::int64_t>(share), parts, distribution, seed, specs, shares[share]);
    }
  });
  workers.join();
  std::vector<Figures> figures;
  for (std::size_t i = 0; i < specs.size(); ++i) {
    FormatMeasurement all = none[i];
    for (const Measurements& share : shares) all += share[i];
    figures.push_back(all.figures());
  }
  return figures;
}

BlockFormat format_of(const Grid& grid) {
  ElementFormat element{"grid", static_cast<int>(grid.levels.size()), {}, CodeKind::kSignMagnitude};
  std::transform(grid.levels.begin(), grid.levels.end(), element.levels.begin(),
                 [](double level) { return static_cast<float>(level); });
  return {"grid", element, 16, ScaleEncoding::kFp32, "a grid given by its levels"};
}

}  // namespace ufp4::analysis
