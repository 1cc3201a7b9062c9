#include "analysis/sampling.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "numerics/hadamard.h"
#include "ufp4/backend.h"

namespace ufp4::analysis {

Figures sampled_figures(const QuantizeSpec& spec, const Distribution& distribution, std::int64_t count,
                        std::uint64_t seed) {
  constexpr std::int64_t kColumns = 4096;
  constexpr std::int64_t kRows = 64;  // at a time
  const Backend& backend = default_backend();
  const BlockFormat& format = *spec.format;
  const std::int64_t block = spec.block_size();
  std::vector<float> values(static_cast<std::size_t>(kRows * kColumns));
  std::vector<float> image(values.size());
  std::vector<float> scales(values.size() / static_cast<std::size_t>(block));
  std::vector<std::uint8_t> codes(values.size() / 2);

  Sums sums;
  std::vector<double> code_count(16);
  std::vector<double> level_count(9);
  std::vector<double> level_error(9);
  const bool one_grid = format.selector_block == 0;
  for (std::int64_t done = 0; done < count; done += kRows * kColumns) {
    distribution.sample(values, seed, static_cast<std::uint64_t>(done));
    QuantizeTask task{spec, {}};
    task.spec.axis = Axis::kRow;
    float global = 1;
    task.out.codes = codes.data();
    task.out.scales = scales.data();
    task.out.dequantized = image.data();
    task.out.dequantized_dtype = DType::kF32;
    task.out.global_scale = &global;
    backend.quantize({values.data(), DType::kF32, kRows, kColumns, kColumns}, {&task, 1});
    if (spec.hadamard.size != 0) {
      const auto n = static_cast<std::size_t>(spec.hadamard.size);
      for (std::size_t c = 0; c < values.size(); c += n) apply_hadamard(std::span(values).subspan(c, n), spec.hadamard);
    }
    for (std::size_t i = 0; i < values.size(); ++i) {
      sums.add(values[i], image[i]);
      const unsigned code = (codes[i / 2] >> (4 * (i % 2))) & 0xFu;
      code_count[code] += 1;
      if (!one_grid) continue;
      const double level = std::fabs(static_cast<double>(code_value(format.element, code)));
      const auto index = static_cast<std::size_t>(
          std::find(format.element.levels.begin(), format.element.levels.end(), static_cast<float>(level)) -
          format.element.levels.begin());
      const double scale =
          std::fabs(static_cast<double>(scales[i / static_cast<std::size_t>(block)]) * static_cast<double>(global));
      level_count[index] += 1;
      if (scale > 0) level_error[index] += level - std::fabs(static_cast<double>(values[i])) / scale;
    }
  }

  Figures figures;
  figures.alpha = sums.alpha();
  figures.nmse = sums.nmse();
  const auto total = static_cast<double>(sums.count);
  figures.zero_share = code_count[0] / total;
  std::vector<double> shares;
  for (unsigned code = 0; code < 16; ++code) {
    const float value = code_value(format.element, code);
    const bool used = code == 0 || value != 0;                                      // no negative zero
    const bool inside = std::fabs(value) <= format.element.largest() || code == 8;  // restricted grids end early
    const bool full = format.element.code_kind == CodeKind::kFullTwosComplement;
    const bool minus_eight = code == 8 && format.element.code_kind != CodeKind::kSignMagnitude;
    if (used && inside && (!minus_eight || full)) shares.push_back(code_count[code] / total);
  }
  figures.bucket_ratio = effective_bucket_ratio(shares);
  if (!one_grid) return figures;
  const auto levels = static_cast<std::size_t>(format.element.level_count) +
                      (format.element.code_kind == CodeKind::kFullTwosComplement ? 1 : 0);
  for (std::size_t k = 0; k < levels; ++k) {
    figures.level_share.push_back(level_count[k] / total);
    figures.level_mean_error.push_back(level_count[k] > 0 ? level_error[k] / level_count[k] : 0);
  }
  return figures;
}

}  // namespace ufp4::analysis
