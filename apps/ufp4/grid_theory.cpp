#include "grid_theory.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <thread>

#include "analysis/sampling.h"
#include "analysis/theory.h"
#include "ufp4/format.h"

namespace ufp4::app {
namespace {

using analysis::Bin;
using analysis::Distribution;
using analysis::Figures;
using analysis::Grid;
using analysis::RankedGrid;

constexpr int kSweepLevels = 8;

Grid grid_from(const std::string& levels) {
  const char first = levels.empty() ? '0' : levels.front();
  const bool number = first == '-' || first == '.' || (first >= '0' && first <= '9');
  return number ? analysis::parse_grid(levels) : analysis::grid_of(find_format(levels));
}

struct Expectation {
  std::string distribution;
  Figures figures;
  std::optional<Figures> transformed;  // measured, for blocks that the quantizer knows
};

// The transform has no closed form: draws through the quantizer, enough for a hundredth of a decibel.
constexpr std::int64_t kDraws = 1 << 21;
constexpr int kHadamard = 16;

Expectation expect(const Grid& grid, const std::string& name, int block) {
  const Distribution distribution(name);
  Expectation result{name, analysis::expected_figures(grid, distribution, block), {}};
  if (std::find(kBlockSizes.begin(), kBlockSizes.end(), block) == kBlockSizes.end()) return result;
  const auto threads = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  const BlockFormat format = analysis::format_of(grid);
  QuantizeSpec spec;
  spec.format = &format;
  spec.block = block;
  spec.hadamard = make_hadamard(kHadamard, 0);
  result.transformed = analysis::sampled_figures({&spec, 1}, distribution, kDraws, 0, threads)[0];
  return result;
}

nlohmann::ordered_json to_json(const Figures& f) {
  return {{"alpha", f.alpha},
          {"delta", f.delta()},
          {"nmse", f.nmse},
          {"sqnr_db", f.sqnr_db()},
          {"bucket_ratio", f.bucket_ratio},
          {"level_share", f.level_share},
          {"level_mean_error", f.level_mean_error}};
}

void print_json(const Grid& grid, const std::vector<Bin>& bins, const std::vector<Expectation>& list, int block) {
  nlohmann::ordered_json bins_json = nlohmann::ordered_json::array();
  for (const Bin& bin : bins) {
    bins_json.push_back({{"level", bin.level},
                         {"lower", bin.lower},
                         {"upper", bin.upper},
                         {"asymmetry", bin.asymmetry},
                         {"eq2_bias", bin.bias}});
  }
  nlohmann::ordered_json figures = nlohmann::ordered_json::object();
  nlohmann::ordered_json transformed = nlohmann::ordered_json::object();
  for (const Expectation& e : list) {
    figures[e.distribution] = to_json(e.figures);
    if (e.transformed) transformed[e.distribution] = to_json(*e.transformed);
  }
  const nlohmann::ordered_json all{
      {"kind", "grid"},
      {"grid", grid.name},
      {"levels", grid.levels},
      {"block", block},
      {"bins", bins_json},
      {"expected", figures},
      {"after_transform", {{"hadamard", kHadamard}, {"draws", kDraws}, {"measured", transformed}}}};
  fmt::print("{}\n", all.dump(2));
}

void print_csv(const std::vector<Bin>& bins, const std::vector<Expectation>& list) {
  fmt::print(
      "distribution,hadamard,level,lower,upper,asymmetry,eq2_bias,share,mean_error,alpha,nmse,sqnr_db,bucket_ratio\n");
  const auto print_lines = [&](const std::string& name, int hadamard, const Figures& f) {
    for (std::size_t k = 0; k < bins.size(); ++k) {
      fmt::print("{},{},{},{},{},{},{},{:.9g},{:.9g},{:.9g},{:.9g},{:.6f},{:.6f}\n", name, hadamard, bins[k].level,
                 bins[k].lower, bins[k].upper, bins[k].asymmetry, bins[k].bias, f.level_share[k], f.level_mean_error[k],
                 f.alpha, f.nmse, f.sqnr_db(), f.bucket_ratio);
    }
  };
  for (const Expectation& e : list) {
    print_lines(e.distribution, 0, e.figures);
    if (e.transformed) print_lines(e.distribution, kHadamard, *e.transformed);
  }
}

void print_table(const Grid& grid, const std::vector<Bin>& bins, const std::vector<Expectation>& list, int block) {
  fmt::print("grid {}, blocks of {}, scale = largest of the block / {}\n\n", grid.name, block, grid.largest());
  fmt::print(
      "Mean of (level - value) in each bin, in units of the scale: by Eq. 2, and exactly under each distribution.\n");
  fmt::print("{:>7} {:>16} {:>10} {:>9}", "level", "bin", "asymmetry", "Eq. 2");
  for (const Expectation& e : list) fmt::print(" {:>9}", e.distribution);
  fmt::print("\n");
  for (std::size_t k = 0; k < bins.size(); ++k) {
    const Bin& bin = bins[k];
    fmt::print("{:>7g} {:>16} {:>10g} {:>9g}", bin.level, fmt::format("{:g} .. {:g}", bin.lower, bin.upper),
               bin.asymmetry, bin.bias);
    for (const Expectation& e : list) fmt::print(" {:>+9.4f}", e.figures.level_mean_error[k]);
    fmt::print("\n");
  }
  const bool both = std::any_of(list.begin(), list.end(), [](const Expectation& e) { return e.transformed; });
  fmt::print("\n{:<12}", "distribution");
  for (int i = 0; i < (both ? 2 : 1); ++i) {
    fmt::print(" {:>9} {:>9} {:>10} {:>7} {:>7}", "SQNR dB", "alpha", "delta", "B_eff", "zeros");
    if (i == 0 && both) fmt::print("  | after RHT:");
  }
  fmt::print("\n");
  const auto print_figures = [](const Figures& f) {
    fmt::print(" {:>9.3f} {:>9.5f} {:>+10.6f} {:>7.3f} {:>6.1f}%", f.sqnr_db(), f.alpha, f.delta(), f.bucket_ratio,
               100 * f.zero_share);
  };
  for (const Expectation& e : list) {
    fmt::print("{:<12}", e.distribution);
    print_figures(e.figures);
    if (e.transformed) {
      fmt::print("  |           ");
      print_figures(*e.transformed);
    }
    fmt::print("\n");
  }
  if (!both) return;
  fmt::print(
      "\nBefore the random Hadamard transform of {} values the figures are exact; after it {} draws, measured.\n",
      kHadamard, kDraws);
}

// The names of the formats whose levels are this grid's, up to a factor.
std::string names_of(const Grid& grid) {
  std::string names;
  for (const BlockFormat& format : formats()) {
    const Grid known = analysis::grid_of(format);
    const bool same = known.levels.size() == grid.levels.size() &&
                      std::equal(known.levels.begin(), known.levels.end(), grid.levels.begin(),
                                 [&](double a, double b) { return a * grid.largest() == b * known.largest(); });
    if (!same) continue;
    if (!names.empty()) names += ' ';
    names += format.element.name;
    break;  // formats of one grid differ in their scales
  }
  return names;
}

}  // namespace

void print_grid(const std::string& levels, const GridTheory& options) {
  const Grid grid = grid_from(levels);
  const std::vector<Bin> bins = analysis::bins_of(grid);
  std::vector<Expectation> list;
  for (const std::string& name : options.distributions) {
    list.push_back(expect(grid, name, options.block));
  }
  switch (options.output) {
    case Output::kTable: print_table(grid, bins, list, options.block); return;
    case Output::kJson: print_json(grid, bins, list, options.block); return;
    case Output::kCsv: print_csv(bins, list); return;
  }
}

void print_sweep(int largest, const GridTheory& options) {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  if (options.output == Output::kCsv) fmt::print("distribution,rank,levels,sqnr_db,alpha,bucket_ratio,format\n");
  for (const std::string& name : options.distributions) {
    const std::vector<RankedGrid> ranked =
        analysis::rank_integer_grids(kSweepLevels, largest, Distribution(name), options.block);
    const Grid uniform = analysis::grid_of(find_format("int4"));
    const Figures uniform_figures = analysis::expected_figures(uniform, Distribution(name), options.block);
    if (options.output == Output::kTable) {
      fmt::print("{}: {} grids of {} levels up to {}; uniform (0 .. 7) has {:.3f} dB\n", name, ranked.size(),
                 kSweepLevels, largest, uniform_figures.sqnr_db());
      fmt::print("{:>6}  {:<26} {:>9} {:>9} {:>7}  {}\n", "rank", "levels", "SQNR dB", "alpha", "B_eff", "format");
    }
    nlohmann::ordered_json list = nlohmann::ordered_json::array();
    for (std::size_t i = 0; i < ranked.size(); ++i) {
      const RankedGrid& r = ranked[i];
      const std::string format = names_of(r.grid);
      if (i >= static_cast<std::size_t>(options.top) && format.empty()) continue;
      const Figures& f = r.figures;
      switch (options.output) {
        case Output::kTable:
          fmt::print("{:>6}  {:<26} {:>9.3f} {:>9.5f} {:>7.3f}  {}\n", i + 1, r.grid.name, f.sqnr_db(), f.alpha,
                     f.bucket_ratio, format);
          break;
        case Output::kCsv:
          fmt::print("{},{},{},{:.6f},{:.6f},{:.6f},{}\n", name, i + 1, fmt::join(r.grid.levels, " "), f.sqnr_db(),
                     f.alpha, f.bucket_ratio, format);
          break;
        case Output::kJson:
          list.push_back({{"rank", i + 1}, {"levels", r.grid.levels}, {"format", format}, {"figures", to_json(f)}});
          break;
      }
    }
    if (options.output == Output::kTable) fmt::print("\n");
    json[name] = {{"grids", ranked.size()}, {"uniform", to_json(uniform_figures)}, {"ranked", list}};
  }
  if (options.output != Output::kJson) return;
  const nlohmann::ordered_json all{{"kind", "sweep"},
                                   {"level_count", kSweepLevels},
                                   {"largest", largest},
                                   {"block", options.block},
                                   {"distributions", std::move(json)}};
  fmt::print("{}\n", all.dump(2));
}

}  // namespace ufp4::app
