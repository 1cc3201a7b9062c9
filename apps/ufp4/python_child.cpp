#include "python_child.h"

#include <fmt/core.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <system_error>
#include <utility>

#include "ufp4/error.h"

namespace ufp4::app {
namespace {

namespace fs = std::filesystem;

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
std::string interpreter(const std::optional<std::string>& python) {
  if (python) return *python;
  return ::access(UFP4_PYTHON_PROGRAM, X_OK) == 0 ? UFP4_PYTHON_PROGRAM : "python3";
}

// What the interpreter runs: the package's program, with the package's folder as the first to import from.
constexpr const char* kStart =
    "import sys; sys.path.insert(0, sys.argv.pop(1)); from ufp4.__main__ import main; sys.exit(main())";

// Begins to run `arguments`; with `actions`, on other files.
pid_t start_child(std::vector<std::string> arguments, const posix_spawn_file_actions_t* actions) {
  const auto pointers = [](std::vector<std::string>& strings) {
    std::vector<char*> list;
    list.reserve(strings.size() + 1);
    for (std::string& s : strings) list.push_back(s.data());
    list.push_back(nullptr);
    return list;
  };
  pid_t child = 0;
  const int error = ::posix_spawnp(&child, arguments[0].c_str(), actions, nullptr, pointers(arguments).data(), environ);
  if (error != 0) {
    throw RunError(fmt::format("cannot run the Python interpreter '{}': {}; name one with --python", arguments[0],
                               std::generic_category().message(error)));
  }
  return child;
}

// Its exit code.
int wait_for(pid_t child) {
  int status = 0;
  while (::waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) throw RunError("lost the Python interpreter: " + std::generic_category().message(errno));
  }
  if (WIFSIGNALED(status)) throw RunError(fmt::format("the Python interpreter ended by signal {}", WTERMSIG(status)));
  return WEXITSTATUS(status);
}

// The child has said why.
[[noreturn]] void end_as(int code) { throw CLI::RuntimeError(code == 2 ? 2 : 1); }

std::vector<std::string> command_of(const std::optional<std::string>& python,
                                    const std::vector<std::string>& arguments) {
  std::vector<std::string> command = python_command(python);
  command.insert(command.end(), arguments.begin(), arguments.end());
  return command;
}

}  // namespace

void add_python_option(CLI::App& verb, std::optional<std::string>& python) {
  verb.add_option("--python", python, "The Python interpreter (that of the build, or python3)");
}

std::vector<std::string> python_command(const std::optional<std::string>& python) {
  const fs::path package = package_folder();
  // -I: with -m alone the current folder comes first, and a json.py in it, such as that of a run from elsewhere, would
  // be executed. What PYTHONPATH names and the user's own packages are not seen either.
  return {interpreter(python), "-I", "-c", kStart, package.string()};
}

void run_python(const std::optional<std::string>& python, const std::vector<std::string>& arguments) {
  std::fflush(stdout);
  if (const int code = wait_for(start_child(command_of(python, arguments), nullptr)); code != 0) end_as(code);
}

PythonChild::PythonChild(const std::optional<std::string>& python, const std::vector<std::string>& arguments) {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    throw RunError("cannot talk to the Python interpreter: " + std::generic_category().message(errno));
  }
  socket_ = ends[0];
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, ends[1], STDIN_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  try {
    process_ = start_child(command_of(python, arguments), &actions);
  } catch (...) {
    ::posix_spawn_file_actions_destroy(&actions);
    ::close(ends[0]);
    ::close(ends[1]);
    throw;
  }
  ::posix_spawn_file_actions_destroy(&actions);
  ::close(ends[1]);
}

PythonChild::~PythonChild() {
  ::close(socket_);  // the child reads the end of its input
  int status = 0;
  while (process_ != 0 && ::waitpid(process_, &status, 0) < 0 && errno == EINTR) {
  }
}

std::string PythonChild::ask(const std::string& line) {
  const auto ended = [this] {
    const int code = wait_for(std::exchange(process_, 0));
    if (code == 0) throw RunError("the Python interpreter ended before it answered");
    end_as(code);
  };
  const std::string text = line + "\n";
  for (std::size_t sent = 0; sent < text.size();) {
    const ssize_t count = ::send(socket_, text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
    if (count < 0 && errno != EINTR) ended();
    if (count > 0) sent += static_cast<std::size_t>(count);
  }
  for (std::size_t end = 0; (end = read_.find('\n')) == std::string::npos;) {
    std::array<char, 1 << 16> piece{};
    const ssize_t count = ::recv(socket_, piece.data(), piece.size(), 0);
    if (count == 0 || (count < 0 && errno != EINTR)) ended();
    if (count > 0) read_.append(piece.data(), static_cast<std::size_t>(count));
  }
  const std::size_t end = read_.find('\n');
  std::string answer = read_.substr(0, end);
  read_.erase(0, end + 1);
  return answer;
}

}  // namespace ufp4::app
