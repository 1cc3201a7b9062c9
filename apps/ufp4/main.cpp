// The program: finds the verb, runs it, and turns what it throws into a message and an exit code.
#include <fcntl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <new>
#include <string>
#include <string_view>
#include <vector>

#include "io/file.h"
#include "io/tensor_name.h"
#include "numerics/near_name.h"
#include "ufp4/error.h"
#include "verbs.h"

namespace {

using AddVerb = void (*)(CLI::App&);

// In the order in which --help lists them.
constexpr std::array kVerbs = std::to_array<AddVerb>({
#ifdef UFP4_TORCH
    ufp4::app::add_train,
    ufp4::app::add_compare,
    ufp4::app::add_plan,
    ufp4::app::add_generate,
    ufp4::app::add_evaluate,
#endif
    ufp4::app::add_analyze,
    ufp4::app::add_quantize,
    ufp4::app::add_formats,
    ufp4::app::add_info,
#ifdef UFP4_HAVE_BENCH
    ufp4::app::add_bench,
#endif
    ufp4::app::add_report,
    ufp4::app::add_tokenize,
    ufp4::app::add_import,
    ufp4::app::add_export,
});

enum ExitCode : int { kDone = 0, kFailed = 1, kWrongUsage = 2 };

int report(ExitCode code, std::string_view message) {
  std::fflush(stdout);
  std::fprintf(stderr, "ufp4: error: %s\n", ufp4::io::printable(message).c_str());
  return code;
}

// What CLI11 found wrong, with a near name where an option or a verb was mistyped.
std::string usage_message(const CLI::App& program, const CLI::ParseError& error) {
  const std::vector<CLI::App*> chosen = program.get_subcommands();
  const CLI::App& verb = chosen.empty() ? program : *chosen.front();
  const std::string help = verb.get_parent() == nullptr ? "ufp4 --help" : "ufp4 " + verb.get_name() + " --help";
  const std::string see = "; see " + help;

  const std::vector<std::string> extra = program.remaining(true);
  if (extra.empty() && chosen.empty() && error.get_exit_code() == static_cast<int>(CLI::ExitCodes::RequiredError)) {
    return "no verb given" + see;
  }
  if (extra.empty()) return std::string(error.what()) + see;

  std::vector<std::string> names;
  std::string word = extra.front();
  const auto option = std::find_if(extra.begin(), extra.end(), [](const auto& s) { return s.starts_with('-'); });
  std::string kind = "unexpected argument";
  if (option != extra.end()) {
    kind = "unknown option";
    word = option->substr(0, option->find('='));
    for (const CLI::Option* known : verb.get_options()) {
      for (const std::string& name : known->get_lnames()) names.push_back("--" + name);
    }
  } else if (chosen.empty()) {
    kind = "unknown verb";
    for (const CLI::App* known : program.get_subcommands([](const CLI::App*) { return true; })) {
      names.push_back(known->get_name());
    }
  }
  const std::vector<std::string_view> views(names.begin(), names.end());
  const std::string hint = views.empty() ? "" : ufp4::name_hint(word, views);
  return kind + " '" + word + "'" + hint + see;
}

int run(int argc, char** argv) {
  CLI::App program("4-bit pretraining with a uniform grid: formats, kernels, training and measurement.", "ufp4");
  program.set_version_flag("--version", "ufp4 " UFP4_VERSION);
  program.require_subcommand(1);
  program.get_formatter()->column_width(32);
  program.footer("'ufp4 VERB --help' shows the options of a verb and an example.");
  for (const AddVerb add : kVerbs) add(program);

  try {
    program.parse(argc, argv);
  } catch (const CLI::Success& help) {
    return program.exit(help);
  } catch (const CLI::RuntimeError& said) {  // a verb that has already said what went wrong
    return said.get_exit_code();
  } catch (const CLI::ParseError& error) {
    return report(kWrongUsage, usage_message(program, error));
  }
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) return report(kFailed, "cannot write to standard output");
  return kDone;
}

// Takes the numbers of standard input, output and error where they are closed. Else the next file that is opened would
// have one of them, and messages would be written into it. Reading and writing still fail, as they do when closed.
void occupy_standard_descriptors() {
  for (const int number : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(number, F_GETFD) >= 0 || errno != EBADF) continue;
    ::open("/dev/null", number == STDIN_FILENO ? O_WRONLY : O_RDONLY);  // gets the lowest number that is free
  }
}

}  // namespace

int main(int argc, char** argv) {
  occupy_standard_descriptors();
  // A file-size limit is then an error of the write that names the file, as a full disk is.
  std::signal(SIGXFSZ, SIG_IGN);
  try {
    return run(argc, argv);
  } catch (const ufp4::InputError& error) {
    return report(kWrongUsage, error.what());
  } catch (const std::filesystem::filesystem_error& error) {
    return report(ufp4::io::path_is_wrong(error.code()) ? kWrongUsage : kFailed, error.what());
  } catch (const std::bad_alloc&) {
    return report(kFailed, "out of memory");
  } catch (const std::exception& error) {
    return report(kFailed, error.what());
  }
}
