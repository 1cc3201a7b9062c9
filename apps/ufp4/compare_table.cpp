#include "compare_table.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

namespace ufp4::app {
namespace {

// Half the width of the 95 % confidence interval of a mean in standard errors: Student's t for n - 1 degrees of
// freedom.
double t_quantile(std::size_t n) {
  constexpr std::array kTable{12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262};
  const std::size_t freedom = n - 1;
  return freedom <= kTable.size() ? kTable[freedom - 1] : 1.96 + 2.5 / static_cast<double>(freedom);
}

std::string with_sem(const Estimate& e, int digits, bool sign) {
  if (!e.mean) return "-";
  if (std::isnan(*e.mean)) return "nan";
  const std::string mean = sign ? fmt::format("{:+.{}f}", *e.mean, digits) : fmt::format("{:.{}f}", *e.mean, digits);
  return e.sem ? fmt::format("{} ± {:.{}f}", mean, *e.sem, digits) : mean;
}

std::string verdict(const Estimate& difference, std::size_t seeds) {
  if (!difference.sem) return "uncertainty unknown (one seed)";
  const double half_width = t_quantile(seeds) * *difference.sem;
  return fmt::format("{} its uncertainty (95 %: ± {:.3f}, paired by {} seeds)",
                     std::abs(*difference.mean) > half_width ? "beyond" : "within", half_width, seeds);
}

}  // namespace

std::string compare_table(const Comparison& comparison) {
  std::size_t width = 6;
  for (const RecipeSummary& s : comparison.summary) width = std::max(width, s.recipe.size());
  // The sign ± is one column of two bytes: columns that hold it are padded by hand.
  const auto pad = [](const std::string& cell, std::size_t columns) {
    const std::size_t used = cell.size() - (cell.find("±") == std::string::npos ? 0 : 1);
    return std::string(columns > used ? columns - used : 0, ' ') + cell;
  };
  std::string text = fmt::format("{:{}}  seeds {} {} {} {}\n", "recipe", width, pad("train_loss", 17),
                                 pad("val_loss", 17), pad("vs bf16, %", 17), pad("tokens/s", 10));
  std::size_t seeds = 0;
  for (const RecipeSummary& s : comparison.summary) {
    std::vector<double> losses;
    double rate = 0;
    seeds = 0;
    for (const ComparedRun& run : comparison.runs) {
      if (run.recipe != s.recipe) continue;
      ++seeds;
      rate += run.result.tokens_per_s;
      if (run.result.train_loss) losses.push_back(*run.result.train_loss);
    }
    const std::string change = s.recipe == kBaseline ? "" : with_sem(s.degradation_percent, 3, true);
    text += fmt::format("{:{}}  {:5} {} {} {} {}\n", s.recipe, width, seeds,
                        pad(with_sem(estimate(losses), 4, false), 17), pad(with_sem(s.val_loss, 4, false), 17),
                        pad(change, 17), pad(fmt::format("{:.0f}", rate / static_cast<double>(seeds)), 10));
  }
  if (text.find("±") != std::string::npos) text += "±: standard error of the mean over seeds\n";
  text += "\n";
  for (std::size_t i = 0; i < comparison.summary.size(); ++i) {
    for (std::size_t j = 0; j < i; ++j) {
      const std::string& recipe = comparison.summary[i].recipe;
      const std::string& other = comparison.summary[j].recipe;
      const Estimate difference = paired_difference(comparison.runs, recipe, other);
      if (!difference.mean) continue;
      text += fmt::format("{} against {}: train_loss {:+.3f} %, {}\n", recipe, other, *difference.mean,
                          verdict(difference, seeds));
    }
  }
  return text;
}

}  // namespace ufp4::app
