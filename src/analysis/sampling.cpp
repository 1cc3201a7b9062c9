#include "analysis/sampling.h"

#include <vector>

#include "analysis/measurement.h"

namespace ufp4::analysis {

Figures sampled_figures(const QuantizeSpec& spec, const Distribution& distribution, std::int64_t count,
                        std::uint64_t seed) {
  constexpr std::int64_t kColumns = 4096;
  constexpr std::int64_t kRows = 64;  // at a time
  std::vector<float> values(static_cast<std::size_t>(kRows * kColumns));
  std::vector<float> transformed;
  MeasurementBuffers buffers;
  FormatMeasurement measurement(spec);
  for (std::int64_t done = 0; done < count; done += kRows * kColumns) {
    distribution.sample(values, seed, static_cast<std::uint64_t>(done));
    const std::int64_t columns = transform_rows({values, kRows, kColumns}, spec.hadamard, transformed);
    measurement.add({transformed, kRows, columns}, buffers);
  }
  return measurement.figures();
}

}  // namespace ufp4::analysis
