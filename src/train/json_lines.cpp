#include "train/json_lines.h"

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "io/file.h"
#include "ufp4/error.h"

namespace ufp4 {
namespace {

using Json = nlohmann::ordered_json;

// The complete lines of the file up to and with `step`.
std::string lines_until(const std::filesystem::path& path, std::int64_t step) {
  const std::string text = io::read_text_file(path);
  std::string kept;
  std::size_t begin = 0;
  for (std::size_t end; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1) {
    const Json line = Json::parse(text.begin() + static_cast<std::ptrdiff_t>(begin),
                                  text.begin() + static_cast<std::ptrdiff_t>(end), nullptr, false);
    if (!line.is_object() || !line.contains("step") || !line["step"].is_number_integer()) continue;
    if (line["step"].get<std::int64_t>() <= step) kept.append(text, begin, end + 1 - begin);
  }
  return kept;
}

}  // namespace

JsonLines::JsonLines(const std::filesystem::path& path, std::int64_t step) : path_(path) {
  io::atomic_write_file(path, std::filesystem::exists(path) ? lines_until(path, step) : std::string());
  file_.open(path, std::ios::app);
  if (!file_) throw RunError(path.string() + ": cannot be opened for writing: " + std::strerror(errno));
}

void JsonLines::write(const std::string& line) {
  file_ << line << '\n' << std::flush;
  if (!file_) throw RunError(path_.string() + ": cannot be written: " + std::strerror(errno));
}

}  // namespace ufp4
