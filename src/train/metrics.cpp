#include "train/metrics.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "io/file.h"
#include "ufp4/error.h"

namespace ufp4 {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kSkipReason = "non-finite loss or gradient";

// Throws what the library throws for an object that is no line of ours.
void add_line(const Json& line, MetricsHistory& history) {
  const std::int64_t step = line.at("step");
  if (line.contains("val_loss")) {
    // JSON knows no number that is not finite: such a loss stands as null, and is no result.
    if (!line["val_loss"].is_null()) history.validations.push_back({step, line["val_loss"]});
  } else if (line.contains("skipped")) {
    history.steps.push_back({.step = step, .lr = line.at("lr"), .tokens = line.at("tokens"), .skipped = true});
  } else {
    history.steps.push_back({step, line.at("loss"), line.at("grad_norm"), line.at("lr"), line.at("tokens"),
                             line.at("tokens_per_s"), line.at("tflops"), line.value("mfu", 0.0),
                             line.at("memory_bytes"), line.value("requantized", std::int64_t{0})});
  }
}

bool is_metrics_line(const Json& line) {
  MetricsHistory history;
  try {
    add_line(line, history);
    return true;
  } catch (const Json::exception&) {
    return false;
  }
}

}  // namespace

MetricsWriter::MetricsWriter(const std::filesystem::path& path, std::int64_t step)
    : lines_(path, step, is_metrics_line) {}

void MetricsWriter::write(const StepMetrics& m) {
  if (m.skipped) {
    lines_.write(Json{{"step", m.step}, {"skipped", kSkipReason}, {"lr", m.lr}, {"tokens", m.tokens}}.dump());
    return;
  }
  lines_.write(Json{{"step", m.step},
                    {"loss", m.loss},
                    {"grad_norm", m.grad_norm},
                    {"lr", m.lr},
                    {"tokens", m.tokens},
                    {"tokens_per_s", m.tokens_per_s},
                    {"tflops", m.tflops},
                    {"mfu", m.mfu},
                    {"memory_bytes", m.memory_bytes},
                    {"requantized", m.requantized}}
                   .dump());
}

void MetricsWriter::write(const Validation& validation) {
  lines_.write(Json{{"step", validation.step}, {"val_loss", validation.loss}}.dump());
}

MetricsHistory read_metrics(const std::filesystem::path& path) {
  const std::string text = io::read_text_file(path);
  MetricsHistory history;
  std::size_t begin = 0;
  for (int number = 1; begin < text.size(); ++number) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    try {
      add_line(Json::parse(text.substr(begin, end - begin)), history);
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
