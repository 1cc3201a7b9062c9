#include "train/compare.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "io/file.h"
#include "io/held_folder.h"
#include "train/device.h"
#include "ufp4/error.h"

namespace ufp4 {
namespace {

using Json = nlohmann::ordered_json;

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(separator, begin), text.size());
    parts.emplace_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

std::string folder_name(const std::string& label) {
  std::string name = label;
  for (char& c : name) {
    if (!std::isalnum(static_cast<unsigned char>(c)) && c != '.' && c != '_' && c != '=') c = '-';
  }
  if (name.starts_with('.')) name.front() = '-';
  return name;
}

Contestant parse_contestant(const std::string& text) {
  RecipeChoice choice = parse_recipe_choice(text, "--recipes");
  return {choice.label, folder_name(choice.label), std::move(choice.assignments)};
}

Json or_null(const std::optional<double>& value) { return value ? Json(*value) : Json(); }

void write_comparison(const std::filesystem::path& file, const Comparison& comparison) {
  Json runs = Json::array();
  for (const ComparedRun& run : comparison.runs) {
    runs.push_back({{"recipe", run.recipe},
                    {"seed", run.seed},
                    {"steps", run.result.step},
                    {"tokens", run.result.tokens},
                    {"train_loss", or_null(run.result.train_loss)},
                    {"val_loss", or_null(run.result.val_loss)},
                    {"tokens_per_s", run.result.tokens_per_s}});
  }
  Json summary = Json::array();
  for (const RecipeSummary& s : comparison.summary) {
    summary.push_back({{"recipe", s.recipe},
                       {"val_loss_mean", or_null(s.val_loss.mean)},
                       {"val_loss_sem", or_null(s.val_loss.sem)},
                       {"degradation_percent_mean", or_null(s.degradation_percent.mean)},
                       {"degradation_percent_sem", or_null(s.degradation_percent.sem)}});
  }
  io::atomic_write_file(file, Json{{"runs", runs}, {"summary", summary}}.dump(1) + "\n", io::Links::kRefuse);
}

constexpr const char* kComparison = "compare.json";
constexpr const char* kRuns = "runs";

std::string run_name(const Contestant& contestant, std::int64_t seed) {
  return contestant.folder + "-seed" + std::to_string(seed);
}

// Throws InputError for what would stop a comparison after its first runs.
void check_comparison_folder(const std::filesystem::path& folder, const std::vector<std::string>& runs) {
  if (folder.empty()) throw InputError("the name of the comparison's folder is empty, expected one (--out DIR)");
  if (io::exists_at(folder) && !std::filesystem::is_directory(folder)) {
    throw InputError(folder.string() + " is a file, expected a folder for the comparison");
  }
  constexpr std::size_t kLongestName = 255;
  for (const std::string& run : runs) {
    if (run.size() <= kLongestName) continue;
    throw InputError("--recipes: the folder of a run would be called '" + run.substr(0, 40) + "..', a name of " +
                     std::to_string(run.size()) + " bytes, too long by " + std::to_string(run.size() - kLongestName) +
                     "; give it a short recipe.name in a TOML file");
  }
  using std::filesystem::file_type;
  io::check_type(folder / kComparison, file_type::regular, "a file of the comparison");
  io::check_type(folder / kRuns, file_type::directory, "a folder of the comparison");
  for (const std::string& run : runs) io::check_type(folder / kRuns / run, file_type::directory, "a folder of a run");
}

}  // namespace

std::vector<Contestant> parse_contestants(std::string_view text) {
  std::vector<Contestant> list;
  std::set<std::string> folders;
  for (const std::string& part : split(text, ',')) {
    if (part.empty()) throw InputError("--recipes '" + std::string(text) + "': a name between two commas is missing");
    list.push_back(parse_contestant(part));
    if (!folders.insert(list.back().folder).second) {
      throw InputError("--recipes: '" + list.back().label + "' stands twice");
    }
  }
  return list;
}

Estimate estimate(const std::vector<double>& values) {
  if (values.empty()) return {};
  const auto n = static_cast<double>(values.size());
  double mean = 0;
  for (const double value : values) mean += value / n;
  if (values.size() == 1) return {mean, std::nullopt};
  double squares = 0;
  for (const double value : values) squares += (value - mean) * (value - mean);
  return {mean, std::sqrt(squares / (n - 1) / n)};
}

Estimate paired_difference(const std::vector<ComparedRun>& runs, const std::string& recipe, const std::string& other) {
  std::map<std::int64_t, double> reference;
  for (const ComparedRun& run : runs) {
    if (run.recipe == other && run.result.train_loss) reference[run.seed] = *run.result.train_loss;
  }
  std::vector<double> percents;
  for (const ComparedRun& run : runs) {
    const auto pair = reference.find(run.seed);
    if (run.recipe != recipe || !run.result.train_loss || pair == reference.end()) continue;
    percents.push_back(100 * (*run.result.train_loss - pair->second) / pair->second);
  }
  return estimate(percents);
}

std::vector<RecipeSummary> summarize(const std::vector<ComparedRun>& runs) {
  std::vector<RecipeSummary> summary;
  for (const ComparedRun& run : runs) {
    const auto same = [&](const RecipeSummary& s) { return s.recipe == run.recipe; };
    if (std::any_of(summary.begin(), summary.end(), same)) continue;
    std::vector<double> losses;
    for (const ComparedRun& r : runs) {
      if (r.recipe == run.recipe && r.result.val_loss) losses.push_back(*r.result.val_loss);
    }
    summary.push_back({run.recipe, estimate(losses), paired_difference(runs, run.recipe, std::string(kBaseline))});
  }
  return summary;
}

Comparison compare(const std::vector<Contestant>& contestants, std::int64_t seeds, const std::vector<Assignment>& base,
                   const std::filesystem::path& folder, const CompareEvents& events,
                   const std::atomic<bool>& stop) try {
  // Everything is checked before the first run starts.
  const auto config_of = [&](const Contestant& contestant, std::int64_t k) {
    std::vector<Assignment> assignments = base;
    assignments.insert(assignments.end(), contestant.assignments.begin(), contestant.assignments.end());
    RunConfig config = make_run_config(assignments);
    config.train.seed += k;
    return config;
  };
  std::vector<Recipe> recipes;
  ModelConfig model;
  DeviceKind device = DeviceKind::kAuto;
  for (const Contestant& contestant : contestants) {
    RunConfig config = config_of(contestant, 0);
    recipes.push_back(std::move(config.recipe));
    model = std::move(config.model);
    device = config.train.device;
  }
  // One device for all: what differs between the runs is the recipe.
  const DeviceChoice choice = choose_device(device, "train.device", model, recipes);
  if (events.train.info && !choice.note.empty()) events.train.info(choice.note);

  std::vector<std::string> names;
  for (const Contestant& contestant : contestants) {
    for (std::int64_t k = 0; k < seeds; ++k) names.push_back(run_name(contestant, config_of(contestant, k).train.seed));
  }
  check_comparison_folder(folder, names);
  const io::HeldFolder held(folder);
  io::remove_left_temporaries(folder);

  // Seed after seed, so that an early look has all recipes.
  Comparison comparison;
  const std::size_t count = contestants.size() * static_cast<std::size_t>(seeds);
  std::size_t index = 0;
  for (std::int64_t k = 0; k < seeds; ++k) {
    for (const Contestant& contestant : contestants) {
      RunConfig config = config_of(contestant, k);
      config.train.device = choice.kind();
      const std::int64_t seed = config.train.seed;
      if (events.run) events.run(contestant, seed, index++, count);
      const TrainResult result = train(config, folder / kRuns / run_name(contestant, seed), events.train, stop);
      if (!result.finished) return comparison;
      comparison.runs.push_back({contestant.label, seed, result});
    }
  }
  // In the order of the recipes, as the tables have them.
  std::stable_sort(comparison.runs.begin(), comparison.runs.end(), [&](const ComparedRun& a, const ComparedRun& b) {
    const auto place = [&](const ComparedRun& run) {
      return std::find_if(contestants.begin(), contestants.end(),
                          [&](const Contestant& c) { return c.label == run.recipe; });
    };
    return place(a) < place(b);
  });
  comparison.summary = summarize(comparison.runs);
  comparison.finished = true;
  write_comparison(folder / kComparison, comparison);
  return comparison;
} catch (const std::filesystem::filesystem_error& error) {
  io::throw_file_error(error);
}

}  // namespace ufp4
