// ufp4 report: an HTML page from a run folder or a measurement, made by the Python package.
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "python_child.h"
#include "ufp4/error.h"
#include "verbs.h"

namespace ufp4::app {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string path;
  std::optional<std::string> out;
  std::optional<std::string> follow;
  std::optional<std::string> python;
};

void run(const Options& options) {
  std::error_code error;
  if (!fs::exists(options.path, error)) {
    throw InputError(
        "'" + options.path +
        "' does not exist; expected a folder that 'ufp4 train' or 'ufp4 compare' wrote, or a file with the "
        "output of 'ufp4 analyze --json' or 'ufp4 formats --json'");
  }
  std::vector<std::string> arguments{"report"};
  if (options.out) arguments.insert(arguments.end(), {"--out", *options.out});
  if (options.follow) arguments.insert(arguments.end(), {"--follow", *options.follow});
  arguments.insert(arguments.end(), {"--", options.path});
  run_python(options.python, arguments);
}

}  // namespace

void add_report(CLI::App& program) {
  CLI::App* verb =
      program.add_subcommand("report", "Make an HTML page of a run, a comparison or a measurement (needs Python)");
  const auto options = std::make_shared<Options>();
  verb->add_option("PATH", options->path,
                   "A folder that 'ufp4 train' or 'ufp4 compare' wrote, or the output of 'ufp4 analyze --json' or "
                   "'ufp4 formats --json' in a file")
      ->required();
  verb->add_option("--out", options->out, "The page to write (DIR/report.html, or FILE.html beside FILE.json)");
  verb->add_option("--follow", options->follow, "Writes the page again so often until the run is done")
      ->type_name("SECONDS");
  add_python_option(*verb, options->python);
  verb->footer(
      "Examples:\n"
      "  ufp4 report runs/demo --out demo.html\n"
      "  ufp4 analyze runs/demo --chain --json > chain.json && ufp4 report chain.json");
  verb->callback([options] { run(*options); });
}

}  // namespace ufp4::app
