#include "train/trainer.h"

#include <fmt/core.h>

#include <exception>
#include <memory>
#include <nlohmann/json.hpp>

#include "train_log.h"
#include "train_options.h"
#include "train_signals.h"
#include "train_threads.h"
#include "ufp4/error.h"
#include "verbs.h"

namespace ufp4::app {
namespace {

struct Options : TrainOptions {
  std::string analyze_every;
  bool json = false;
};

nlohmann::ordered_json or_null(const std::optional<double>& value) {
  return value ? nlohmann::ordered_json(*value) : nlohmann::ordered_json();
}

TrainResult train_logged(const RunConfig& config, const std::string& folder, TrainLog& log) try {
  TrainResult result = train(config, folder, log.events(), stopped_by_signal());
  if (!result.finished) {
    throw RunError(
        fmt::format("stopped at step {} of {}; the same command continues", result.step, config.train.steps));
  }
  return result;
} catch (const std::exception& error) {
  log.error_in_file(error.what());
  throw;
}

void run(const Options& options) {
  sleep_at_barriers();
  std::vector<Assignment> assignments = with_default_recipe(options.assignments());
  if (!options.analyze_every.empty()) {
    assignments.push_back({"train.analyze_every", {options.analyze_every}, "--analyze-every", false});
  }
  const RunConfig config = make_run_config(assignments);
  TrainLog log;
  log.start(config, "");
  log.info(describe_recipe(assignments, config.recipe));
  const TrainResult result = train_logged(config, options.out, log);
  if (options.json) {
    const nlohmann::ordered_json json{{"out", options.out},
                                      {"steps", result.step},
                                      {"tokens", result.tokens},
                                      {"skipped", result.skipped},
                                      {"train_loss", or_null(result.train_loss)},
                                      {"val_loss", or_null(result.val_loss)},
                                      {"tokens_per_s", result.tokens_per_s}};
    fmt::print("{}\n", json.dump(1));
    return;
  }
  fmt::print("{} steps, {} tokens, {:.0f} tokens/s", result.step, result.tokens, result.tokens_per_s);
  if (result.train_loss) fmt::print(", train_loss {:.4f}", *result.train_loss);
  if (result.val_loss) fmt::print(", val_loss {:.4f}", *result.val_loss);
  if (result.skipped > 0) fmt::print(", {} steps skipped", result.skipped);
  fmt::print("; results in {}\n", options.out);
}

}  // namespace

void add_train(CLI::App& program) {
  auto options = std::make_shared<Options>();
  CLI::App* verb =
      program.add_subcommand("train", "Pretrains one model under one recipe; continues where it was stopped");
  options->add_to(*verb);
  verb->add_option("--recipe", options->recipe,
                   "Recipe: a name or a TOML file, with changes of its own after colons; ufp4 if not given")
      ->type_name("NAME|FILE[:KEY=VALUE..]");
  verb->add_option("--analyze-every", options->analyze_every,
                   "Measures the six operands of every linear each N steps (analysis.jsonl); changes no result")
      ->type_name("N");
  verb->add_flag("--json", options->json, "Prints the result as JSON");
  verb->footer(
      "Example:\n"
      "  ufp4 train --model tiny --recipe ufp4 --data builtin --steps 300 --out runs/first\n"
      "Ctrl-C, SIGTERM and SIGHUP save a checkpoint first; the same command then continues.");
  verb->callback([options] { run(*options); });
}

}  // namespace ufp4::app
