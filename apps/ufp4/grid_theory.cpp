#include "grid_theory.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <thread>
#include <utility>

#include "analysis/sampling.h"
#include "analysis/sorted_draws.h"
#include "analysis/theory.h"
#include "ufp4/error.h"
#include "ufp4/format.h"

namespace ufp4::app {
namespace {

using analysis::Bin;
using analysis::Distribution;
using analysis::Figures;
using analysis::Grid;
using analysis::SortedDraws;

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
constexpr std::int64_t kSweepDraws = 1 << 19;
constexpr int kHadamard = 16;

bool quantizer_knows(int block) {
  return std::find(kBlockSizes.begin(), kBlockSizes.end(), block) != kBlockSizes.end();
}

// The figures of grids after the transform, of the same draws; none for blocks that the quantizer does not know.
std::vector<Figures> measure_transformed(const std::vector<Grid>& grids, const Distribution& distribution, int block,
                                         std::int64_t draws) {
  if (!quantizer_knows(block)) return {};
  std::vector<BlockFormat> formats;
  std::transform(grids.begin(), grids.end(), std::back_inserter(formats), analysis::format_of);
  std::vector<OperandSpec> specs;
  for (const BlockFormat& format : formats) {
    OperandSpec& spec = specs.emplace_back();
    spec.format = &format;
    spec.block = block;
    spec.hadamard = make_hadamard(kHadamard, 0);
  }
  const auto threads = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  return analysis::sampled_figures(specs, distribution, draws, 0, threads);
}

Expectation expect(const Grid& grid, const std::string& name, int block) {
  const Distribution distribution(name);
  const std::vector<Figures> transformed = measure_transformed({grid}, distribution, block, kDraws);
  return {name, analysis::expected_figures(grid, distribution, block),
          transformed.empty() ? std::nullopt : std::optional(transformed[0])};
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

namespace {

// A grid of a sweep that is listed.
struct Listed {
  std::size_t rank = 0;
  Grid grid;
  Figures figures;
  std::optional<Figures> transformed;
  std::string format;
};

// A family under one distribution.
struct Sweep {
  std::size_t grids = 0;
  std::vector<Listed> listed;
  Listed uniform;  // 0 .. 7, whether or not it is of the family
};

std::vector<Grid> ranked_grids(int largest, const Distribution& distribution, const GridTheory& options) {
  if (options.rank_by == RankBy::kBefore) {
    return analysis::rank_integer_grids(kSweepLevels, largest, [&](const Grid& grid) {
      return analysis::expected_figures(grid, distribution, options.block).nmse;
    });
  }
  const SortedDraws draws(distribution, make_hadamard(kHadamard, 0), options.block, kSweepDraws, 0);
  return analysis::rank_integer_grids(kSweepLevels, largest, [&](const Grid& grid) { return draws.nmse(grid); });
}

Sweep sweep(int largest, const std::string& name, const GridTheory& options) {
  const Distribution distribution(name);
  const std::vector<Grid> ranked = ranked_grids(largest, distribution, options);
  Sweep result;
  result.grids = ranked.size();
  const Grid uniform = analysis::grid_of(find_format("int4"));
  result.uniform = {0, uniform, analysis::expected_figures(uniform, distribution, options.block), {}, "int4"};
  std::vector<Grid> grids{uniform};
  for (std::size_t i = 0; i < ranked.size(); ++i) {
    std::string format = names_of(ranked[i]);
    if (i >= static_cast<std::size_t>(options.top) && format.empty()) continue;
    grids.push_back(ranked[i]);
    result.listed.push_back(
        {i + 1, ranked[i], analysis::expected_figures(ranked[i], distribution, options.block), {}, std::move(format)});
  }
  const std::vector<Figures> transformed = measure_transformed(grids, distribution, options.block, kSweepDraws);
  if (transformed.empty()) return result;
  result.uniform.transformed = transformed[0];
  for (std::size_t i = 0; i < result.listed.size(); ++i) result.listed[i].transformed = transformed[i + 1];
  return result;
}

const char* name_of(RankBy rank_by) { return rank_by == RankBy::kBefore ? "before" : "after"; }

std::string decibel_after(const Listed& grid, const char* form) {
  return grid.transformed ? fmt::format(fmt::runtime(form), grid.transformed->sqnr_db()) : std::string();
}

void print_table(const std::string& name, int largest, const Sweep& sweep, RankBy rank_by) {
  fmt::print("{}: {} grids of {} levels up to {}, by SQNR {} RHT; uniform (0 .. 7) has {:.3f} dB{}\n", name,
             sweep.grids, kSweepLevels, largest, name_of(rank_by), sweep.uniform.figures.sqnr_db(),
             decibel_after(sweep.uniform, ", {:.2f} dB after RHT"));
  fmt::print("{:>6}  {:<26} {:>9} {:>9} {:>9} {:>7}  {}\n", "rank", "levels", "SQNR dB", "after RHT", "alpha", "B_eff",
             "format");
  for (const Listed& g : sweep.listed) {
    fmt::print("{:>6}  {:<26} {:>9.3f} {:>9} {:>9.5f} {:>7.3f}  {}\n", g.rank, g.grid.name, g.figures.sqnr_db(),
               decibel_after(g, "{:.2f}"), g.figures.alpha, g.figures.bucket_ratio, g.format);
  }
  fmt::print("\n");
}

void print_csv(const std::string& name, const Sweep& sweep) {
  for (const Listed& g : sweep.listed) {
    fmt::print("{},{},{},{:.6f},{},{:.6f},{:.6f},{}\n", name, g.rank, fmt::join(g.grid.levels, " "),
               g.figures.sqnr_db(), decibel_after(g, "{:.3f}"), g.figures.alpha, g.figures.bucket_ratio, g.format);
  }
}

nlohmann::ordered_json to_json(const Listed& g) {
  nlohmann::ordered_json json{
      {"rank", g.rank}, {"levels", g.grid.levels}, {"format", g.format}, {"figures", to_json(g.figures)}};
  if (g.transformed) json["after_transform"] = to_json(*g.transformed);
  return json;
}

}  // namespace

void print_sweep(int largest, const GridTheory& options) {
  if (options.rank_by == RankBy::kAfter && !quantizer_knows(options.block)) {
    throw InputError(fmt::format("--rank after needs blocks that the quantizer knows ({}), found {}",
                                 fmt::join(kBlockSizes, ", "), options.block));
  }
  nlohmann::ordered_json distributions = nlohmann::ordered_json::object();
  if (options.output == Output::kCsv) {
    fmt::print("distribution,rank,levels,sqnr_db,sqnr_db_after,alpha,bucket_ratio,format\n");
  }
  for (const std::string& name : options.distributions) {
    const Sweep found = sweep(largest, name, options);
    switch (options.output) {
      case Output::kTable: print_table(name, largest, found, options.rank_by); break;
      case Output::kCsv: print_csv(name, found); break;
      case Output::kJson: {
        nlohmann::ordered_json ranked = nlohmann::ordered_json::array();
        for (const Listed& g : found.listed) ranked.push_back(to_json(g));
        nlohmann::ordered_json json{{"grids", found.grids}, {"uniform", to_json(found.uniform.figures)}};
        if (found.uniform.transformed) json["uniform_after_transform"] = to_json(*found.uniform.transformed);
        json["ranked"] = std::move(ranked);
        distributions[name] = std::move(json);
        break;
      }
    }
  }
  if (options.output != Output::kJson) return;
  const nlohmann::ordered_json all{
      {"kind", "sweep"},        {"level_count", kSweepLevels},           {"largest", largest},
      {"block", options.block}, {"ranked_by", name_of(options.rank_by)}, {"distributions", std::move(distributions)}};
  fmt::print("{}\n", all.dump(2));
}

}  // namespace ufp4::app
