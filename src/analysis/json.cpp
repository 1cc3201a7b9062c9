#include "analysis/json.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "analysis/theory.h"
#include "numerics/scale_rules.h"

namespace ufp4::analysis {

using Json = nlohmann::ordered_json;

Json decibel(double nmse) {
  if (nmse <= 0) return nullptr;
  return -10 * std::log10(nmse);
}

Json to_json(const Figures& f) {
  return {{"sqnr_db", decibel(f.nmse)},
          {"nmse", f.nmse},
          {"alpha", f.alpha},
          {"delta", f.delta()},
          {"bucket_ratio", f.bucket_ratio},
          {"zero_share", f.zero_share},
          {"clamped_share", f.clamped_share},
          {"level_share", f.level_share},
          {"level_mean_error", f.level_mean_error}};
}

Json to_json(const MatrixReport& report) {
  Json schemes = Json::array();
  for (const SchemeFigures& entry : report.schemes) {
    const OperandSpec& scheme = entry.scheme;
    Json json{{"format", scheme.format->name},
              {"block", scheme.block_size()},
              {"hadamard", scheme.hadamard.size},
              {"rounding", name_of(scheme.rounding)}};
    if (scheme.format->has_outer_scale()) {
      json["outer"] = name_of(scheme.outer_each());
      json["own_outer"] = name_of(scheme.format->own_outer);
    }
    if (scheme.format->has_window()) json["tau"] = reference::tau_of(scheme);
    json.update(to_json(entry.figures));
    if (const Figures* plain = report.without_transform(scheme); plain != nullptr && scheme.hadamard.size != 0) {
      json["gain_db"] = gain_db(*plain, entry.figures);  // NaN is written as null
    }
    schemes.push_back(std::move(json));
  }
  return {{"shape", {report.rows, report.columns}},
          {"nonfinite", report.nonfinite},
          {"rms", report.rms},
          {"amax", report.amax},
          {"crest", report.crest()},
          {"schemes", std::move(schemes)}};
}

Json expected_bins(const BlockFormat& format) {
  const Grid grid = grid_of(format);
  Json json{{"name", format.name}, {"block", format.block}, {"levels", grid.levels}};
  std::vector<double> bias;
  for (const Bin& bin : bins_of(grid)) bias.push_back(bin.bias);
  json["eq2_bias"] = bias;
  json["normal_mean_error"] = nullptr;
  json["normal_share"] = nullptr;
  if (format.rule == ScaleRule::kAmax && format.element.code_kind != CodeKind::kFullTwosComplement) {
    const Figures normal = expected_figures(grid, Distribution("normal"), format.block);
    json["normal_mean_error"] = normal.level_mean_error;
    json["normal_share"] = normal.level_share;
  }
  return json;
}

}  // namespace ufp4::analysis
