// Several recipes trained on the same data, in the same order, from the same weights, with several seeds.
//
//   DIR/runs/<recipe>-seed<k>/   one run each (train/trainer.h)
//   DIR/compare.json             {"runs": [{"recipe", "seed", "steps", "tokens", "train_loss", "val_loss",
//   "tokens_per_s"}],
//                                 "summary": [{"recipe", "val_loss_mean", "val_loss_sem", "degradation_percent_mean",
//                                              "degradation_percent_sem"}]}
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "train/trainer.h"

namespace ufp4 {

// One contestant: a recipe by name or file, with changes of its own.
struct Contestant {
  std::string label;                    // in tables and compare.json
  std::string folder;                   // the label, safe as a name of a folder
  std::vector<Assignment> assignments;  // recipe.base and recipe.* keys
};

// "bf16,e2m1,ufp4:dgrad.hadamard=0:wgrad.dy.rounding=rtne,my/recipe.toml": names and files with commas between them,
// each with any number of ":key=value" changes of recipe keys. The label of a file is the name inside it. Throws
// InputError for an unknown recipe or key, and for two contestants of the same label.
std::vector<Contestant> parse_contestants(std::string_view text);

struct ComparedRun {
  std::string recipe;
  std::int64_t seed = 0;
  TrainResult result;
};

// Mean over seeds, and its standard error: null with one seed.
struct Estimate {
  std::optional<double> mean, sem;
};

struct RecipeSummary {
  std::string recipe;
  Estimate val_loss;
  // 100 (L - L_bf16) / L_bf16 with L the train_loss, paired by seed; null without a bf16 among the recipes.
  Estimate degradation_percent;
};

struct Comparison {
  bool finished = false;
  std::vector<ComparedRun> runs;
  std::vector<RecipeSummary> summary;
};

// The baseline of the degradation.
inline constexpr std::string_view kBaseline = "bf16";

Estimate estimate(const std::vector<double>& values);
std::vector<RecipeSummary> summarize(const std::vector<ComparedRun>& runs);

// Difference of two recipes' train_loss in percent of the second's, paired by seed.
Estimate paired_difference(const std::vector<ComparedRun>& runs, const std::string& recipe, const std::string& other);

struct CompareEvents {
  // Before a run starts or continues: which of how many.
  std::function<void(const Contestant&, std::int64_t seed, std::size_t index, std::size_t count)> run;
  TrainEvents train;
};

// Trains `contestants` with seeds train.seed, train.seed + 1, ..; all other settings from `base`. Runs that are done
// are kept, one that was interrupted continues. Writes compare.json when all are done; with `stop` set it returns
// early.
Comparison compare(const std::vector<Contestant>& contestants, std::int64_t seeds, const std::vector<Assignment>& base,
                   const std::filesystem::path& folder, const CompareEvents& events, const std::atomic<bool>& stop);

}  // namespace ufp4
