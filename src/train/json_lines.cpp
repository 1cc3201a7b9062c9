#include "train/json_lines.h"

#include <nlohmann/json.hpp>

#include "io/file.h"

namespace ufp4 {
namespace {

using Json = nlohmann::ordered_json;

// The complete lines of the file up to and with `step`.
std::string lines_until(const std::filesystem::path& path, std::int64_t step,
                        const std::function<bool(const Json&)>& is_line) {
  const io::MappedFile file(path);
  const std::string_view text = file.text();
  std::string kept;
  std::size_t begin = 0;
  for (std::size_t end; (end = text.find('\n', begin)) != std::string_view::npos; begin = end + 1) {
    const Json line = Json::parse(text.substr(begin, end - begin), nullptr, false);
    if (!line.is_object() || !line.contains("step") || !line["step"].is_number_integer()) continue;
    if (line["step"].get<std::int64_t>() > step || (is_line && !is_line(line))) continue;
    kept.append(text, begin, end + 1 - begin);
  }
  return kept;
}

io::AppendFile opened(const std::filesystem::path& path, std::int64_t step,
                      const std::function<bool(const Json&)>& is_line) {
  const bool there = std::filesystem::exists(path);
  io::atomic_write_file(path, there ? lines_until(path, step, is_line) : std::string(), io::Links::kRefuse);
  return io::AppendFile(path);
}

}  // namespace

JsonLines::JsonLines(const std::filesystem::path& path, std::int64_t step,
                     const std::function<bool(const Json&)>& is_line)
    : file_(opened(path, step, is_line)) {}

}  // namespace ufp4
