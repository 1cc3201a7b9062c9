#include "train/compare.h"

#include <fmt/core.h>

#include <chrono>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "compare_table.h"
#include "io/file.h"
#include "train_log.h"
#include "train_options.h"
#include "train_signals.h"
#include "train_threads.h"
#include "ufp4/error.h"
#include "verbs.h"

namespace ufp4::app {
namespace {

struct Options : TrainOptions {
  Options() { names_recipes = true; }

  std::string recipes = "bf16,e2m1,ufp4";
  std::int64_t seeds = 1;
  bool json = false;
};

using Clock = std::chrono::steady_clock;

// ", about 1:02:03 left": as long as the runs that began here took on average, for the `count` that are to come.
std::string time_left(const std::vector<Clock::time_point>& begun, std::size_t count) {
  if (begun.empty()) return "";
  const double seconds = std::chrono::duration<double>(Clock::now() - begun.front()).count();
  return fmt::format(", about {} left",
                     duration(seconds / static_cast<double>(begun.size()) * static_cast<double>(count)));
}

void run(const Options& options) {
  sleep_at_barriers();
  const std::vector<Contestant> contestants = parse_contestants(options.recipes);
  const std::vector<Assignment> assignments = options.assignments();
  const RunConfig config = make_run_config(assignments);
  TrainLog log;
  CompareEvents events;
  std::vector<Clock::time_point> begun;
  events.train = log.events();
  events.run = [&](const Contestant& contestant, std::int64_t seed, std::size_t index, std::size_t count) {
    log.start(config, contestant.label + " seed " + std::to_string(seed));
    log.info(fmt::format("run {} of {}{}", index + 1, count, time_left(begun, count - index)));
    begun.push_back(Clock::now());
  };
  const Comparison comparison = [&] {
    try {
      Comparison all = compare(contestants, options.seeds, assignments, options.out, events, stopped_by_signal());
      if (!all.finished) {
        throw RunError(fmt::format("stopped after {} of {} runs; the same command continues", all.runs.size(),
                                   contestants.size() * static_cast<std::size_t>(options.seeds)));
      }
      return all;
    } catch (const std::exception& error) {
      log.error_in_file(error.what());
      throw;
    }
  }();
  const std::string file = options.out + "/compare.json";
  if (options.json) {
    fmt::print("{}", io::read_text_file(file));
    return;
  }
  fmt::print("{}\n{}; an HTML page of it: ufp4 report {}\n", compare_table(comparison), file, options.out);
}

}  // namespace

void add_compare(CLI::App& program) {
  auto options = std::make_shared<Options>();
  CLI::App* verb =
      program.add_subcommand("compare", "Trains one model under several recipes and seeds on the same data");
  options->add_to(*verb);
  verb->add_option("--recipes", options->recipes, "Names or TOML files, each with changes of its own after colons")
      ->type_name("A,B:KEY=VALUE,..")
      ->capture_default_str();
  verb->add_option("--seeds", options->seeds, "Seeds a recipe, from train.seed on")
      ->type_name("N")
      ->check(CLI::Range(1, 10000))
      ->capture_default_str();
  verb->add_flag("--json", options->json, "Prints compare.json instead of the table");
  verb->footer(
      "Examples:\n"
      "  ufp4 compare --model tiny --recipes bf16,e2m1,ufp4 --steps 300 --data builtin --out runs/demo\n"
      "  ufp4 compare --model 10m --recipes bf16,ufp4,ufp4:dgrad.hadamard=0 --seeds 3 --steps 2000 \\\n"
      "      --data books.jsonl.zst --out runs/ablation\n"
      "Ctrl-C, SIGTERM and SIGHUP save a checkpoint first; the same command then continues. Runs that are done are "
      "kept.");
  verb->callback([options] { run(*options); });
}

}  // namespace ufp4::app
