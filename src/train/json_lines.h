// A file of a run with one JSON object a line, each with its "step", written and flushed as it happens.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "io/append_file.h"

namespace ufp4 {

class JsonLines {
 public:
  // Drops the lines of steps beyond `step`, which a continued run will write again; the rest stays as it is. What is no
  // whole line, or none that `is_line` takes, is dropped too. Throws RunError if the file cannot be written, InputError
  // if it is a link.
  JsonLines(const std::filesystem::path& path, std::int64_t step,
            const std::function<bool(const nlohmann::ordered_json&)>& is_line = {});

  // Throws RunError.
  void write(const std::string& line) { file_.write(line + "\n"); }
  // The lines survive a power cut.
  void sync() { file_.sync(); }

 private:
  io::AppendFile file_;
};

}  // namespace ufp4
