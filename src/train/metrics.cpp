#include "train/metrics.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "io/file.h"
#include "ufp4/error.h"

namespace ufp4 {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kSkipReason = "non-finite loss or gradient";

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

MetricsWriter::MetricsWriter(const std::filesystem::path& path, std::int64_t step) : path_(path) {
  io::atomic_write_file(path, std::filesystem::exists(path) ? lines_until(path, step) : std::string());
  file_.open(path, std::ios::app);
  if (!file_) throw RunError(path.string() + ": cannot be opened for writing: " + std::strerror(errno));
}

void MetricsWriter::write_line(const std::string& line) {
  file_ << line << '\n' << std::flush;
  if (!file_) throw RunError(path_.string() + ": cannot be written: " + std::strerror(errno));
}

void MetricsWriter::write(const StepMetrics& m) {
  if (m.skipped) {
    write_line(Json{{"step", m.step}, {"skipped", kSkipReason}, {"lr", m.lr}, {"tokens", m.tokens}}.dump());
    return;
  }
  write_line(Json{{"step", m.step},
                  {"loss", m.loss},
                  {"grad_norm", m.grad_norm},
                  {"lr", m.lr},
                  {"tokens", m.tokens},
                  {"tokens_per_s", m.tokens_per_s},
                  {"tflops", m.tflops},
                  {"mfu", m.mfu},
                  {"memory_bytes", m.memory_bytes}}
                 .dump());
}

void MetricsWriter::write(const Validation& validation) {
  write_line(Json{{"step", validation.step}, {"val_loss", validation.loss}}.dump());
}

MetricsHistory read_metrics(const std::filesystem::path& path) {
  const std::string text = io::read_text_file(path);
  MetricsHistory history;
  std::size_t begin = 0;
  for (int number = 1; begin < text.size(); ++number) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    try {
      const Json line = Json::parse(text.substr(begin, end - begin));
      const std::int64_t step = line.at("step");
      if (line.contains("val_loss")) {
        history.validations.push_back({step, line["val_loss"]});
      } else if (line.contains("skipped")) {
        history.steps.push_back({.step = step, .lr = line.at("lr"), .tokens = line.at("tokens"), .skipped = true});
      } else {
        history.steps.push_back({step, line.at("loss"), line.at("grad_norm"), line.at("lr"), line.at("tokens"),
                                 line.at("tokens_per_s"), line.at("tflops"), line.value("mfu", 0.0),
                                 line.at("memory_bytes")});
      }
    } catch (const Json::exception& error) {
      throw InputError(path.string() + ":" + std::to_string(number) + ": not a line of metrics: " + error.what());
    }
    begin = end + 1;
  }
  return history;
}

std::optional<double> final_train_loss(const std::vector<StepMetrics>& steps, std::int64_t total_steps) {
  const std::int64_t window = std::max<std::int64_t>(1, total_steps / 10);
  double sum = 0;
  std::int64_t count = 0;
  for (const StepMetrics& m : steps) {
    if (m.skipped || m.step <= total_steps - window || m.step > total_steps) continue;
    sum += m.loss;
    ++count;
  }
  if (count == 0) return std::nullopt;
  return sum / static_cast<double>(count);
}

}  // namespace ufp4
