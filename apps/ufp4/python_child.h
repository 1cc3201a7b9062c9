// The Python package `ufp4`, run as a program beside this one.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

namespace ufp4::app {

// Adds --python.
void add_python_option(CLI::App& verb, std::optional<std::string>& python);

// What runs `python -m ufp4` with the package of this program, whatever the current folder and the environment hold:
// the interpreter (`python`, that of the build, or python3) and its first arguments. Throws RunError without a package.
std::vector<std::string> python_command(const std::optional<std::string>& python);

// Runs the verb of the package with its arguments; throws what main turns into its exit code. The child says what is
// wrong.
void run_python(const std::optional<std::string>& python, const std::vector<std::string>& arguments);

// A verb of the package that answers lines with lines, until this object ends.
class PythonChild {
 public:
  PythonChild(const std::optional<std::string>& python, const std::vector<std::string>& arguments);
  ~PythonChild();
  PythonChild(const PythonChild&) = delete;
  PythonChild& operator=(const PythonChild&) = delete;

  // The answer to a line. Throws what main turns into the exit code of a child that ended; it has said why.
  std::string ask(const std::string& line);

 private:
  int socket_ = -1;
  int process_ = 0;
  std::string read_;  // of later lines
};

}  // namespace ufp4::app
