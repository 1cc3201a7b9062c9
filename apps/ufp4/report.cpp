// ufp4 report: an HTML page from a run folder or a measurement, made by the Python package.
#include <fmt/core.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "ufp4/error.h"
#include "verbs.h"

namespace ufp4::app {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string path;
  std::optional<std::string> out;
  std::optional<std::string> python;
};

// The folder that holds the Python package `ufp4`: beside the installed program, or in the source tree.
fs::path package_folder() {
  std::error_code error;
  std::vector<fs::path> candidates;
  // Without /proc nothing is known of the program's place, and a relative path would name the current folder.
  if (const fs::path program = fs::read_symlink("/proc/self/exe", error); !error) {
    candidates.push_back(program.parent_path().parent_path() / UFP4_PYTHON_INSTALLED);
  }
  candidates.emplace_back(UFP4_PYTHON_SOURCE);
  for (const fs::path& candidate : candidates) {
    if (fs::exists(candidate / "ufp4" / "__main__.py", error)) return candidate;
  }
  std::string places;
  for (const fs::path& candidate : candidates) places += (places.empty() ? "'" : " or '") + candidate.string() + "'";
  throw RunError("the Python package 'ufp4' was not found in " + places);
}

// The interpreter: the one asked for, the one of the build's virtual environment, or the first python3 of the path.
std::string interpreter(const Options& options) {
  if (options.python) return *options.python;
  return ::access(UFP4_PYTHON_PROGRAM, X_OK) == 0 ? UFP4_PYTHON_PROGRAM : "python3";
}

// What the interpreter runs: the package's program, with the package's folder as the first to import from.
constexpr const char* kStart =
    "import sys; sys.path.insert(0, sys.argv.pop(1)); from ufp4.__main__ import main; sys.exit(main())";

// Runs `arguments`, and gives the exit code.
int run_child(std::vector<std::string> arguments) {
  const auto pointers = [](std::vector<std::string>& strings) {
    std::vector<char*> list;
    list.reserve(strings.size() + 1);
    for (std::string& s : strings) list.push_back(s.data());
    list.push_back(nullptr);
    return list;
  };
  pid_t child = 0;
  const int error = ::posix_spawnp(&child, arguments[0].c_str(), nullptr, nullptr, pointers(arguments).data(), environ);
  if (error != 0) {
    throw RunError(fmt::format("cannot run the Python interpreter '{}': {}; name one with --python", arguments[0],
                               std::generic_category().message(error)));
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) throw RunError("lost the Python interpreter: " + std::generic_category().message(errno));
  }
  if (WIFSIGNALED(status)) throw RunError(fmt::format("the Python interpreter ended by signal {}", WTERMSIG(status)));
  return WEXITSTATUS(status);
}

void run(const Options& options) {
  std::error_code error;
  if (!fs::exists(options.path, error)) {
    throw InputError(
        "'" + options.path +
        "' does not exist; expected a folder that 'ufp4 train' or 'ufp4 compare' wrote, or a file with the "
        "output of 'ufp4 analyze --json' or 'ufp4 formats --json'");
  }
  const fs::path package = package_folder();
  // -I: with -m alone the current folder comes first, and a json.py in it, such as that of a run from elsewhere, would
  // be executed. What PYTHONPATH names and the user's own packages are not seen either.
  std::vector<std::string> arguments{interpreter(options), "-I", "-c", kStart, package.string(), "report"};
  if (options.out) arguments.insert(arguments.end(), {"--out", *options.out});
  arguments.insert(arguments.end(), {"--", options.path});
  std::fflush(stdout);
  if (const int code = run_child(std::move(arguments)); code != 0) {
    // The child has said why.
    throw CLI::RuntimeError(code == 2 ? 2 : 1);
  }
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
  verb->add_option("--python", options->python, "The Python interpreter (that of the build, or python3)");
  verb->footer(
      "Examples:\n"
      "  ufp4 report runs/demo --out demo.html\n"
      "  ufp4 analyze runs/demo --chain --json > chain.json && ufp4 report chain.json");
  verb->callback([options] { run(*options); });
}

}  // namespace ufp4::app
