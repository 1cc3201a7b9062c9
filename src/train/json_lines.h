// A file of a run with one JSON object a line, each with its "step", written and flushed as it happens.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>

namespace ufp4 {

class JsonLines {
 public:
  // Drops the lines of steps beyond `step`, which a continued run will write again; the rest stays as it is, and a last
  // line that was cut is dropped too. Throws RunError if the file cannot be written.
  JsonLines(const std::filesystem::path& path, std::int64_t step);

  // Throws RunError.
  void write(const std::string& line);

 private:
  std::filesystem::path path_;
  std::ofstream file_;
};

}  // namespace ufp4
