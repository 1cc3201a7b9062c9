// What a run measures: one JSON object a line in metrics.jsonl, written and flushed as it happens.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "train/json_lines.h"

namespace ufp4 {

// One optimizer step.
struct StepMetrics {
  std::int64_t step = 0;  // from 1
  double loss = 0;        // mean over the step's tokens, nats a token
  double grad_norm = 0;   // before clipping
  double lr = 0;
  std::int64_t tokens = 0;  // seen so far
  double tokens_per_s = 0;
  double tflops = 0;              // model floating-point operations, 10^12 a second
  double mfu = 0;                 // those as a share of the device's peak (train/peak.h); 0 where it is not known
  std::int64_t memory_bytes = 0;  // peak: of the process (cpu), of the device's allocator (cuda)
  std::int64_t requantized = 0;   // operands that did not fit what was expected of them (torch/window.h)
  bool skipped = false;           // loss or gradient was not finite: the weights did not change
};

struct Validation {
  std::int64_t step = 0;
  double loss = 0;
};

// Appends to a metrics.jsonl. Throws RunError if a line cannot be written.
class MetricsWriter {
 public:
  // Continues after `step` (train/json_lines.h). Lines that read_metrics() would refuse are dropped.
  MetricsWriter(const std::filesystem::path& path, std::int64_t step);

  void write(const StepMetrics& metrics);
  void write(const Validation& validation);
  // What was written survives a power cut.
  void sync() { lines_.sync(); }

 private:
  JsonLines lines_;
};

struct MetricsHistory {
  std::vector<StepMetrics> steps;
  std::vector<Validation> validations;
};

// Throws InputError that names file and line for a line that is not one of ours.
MetricsHistory read_metrics(const std::filesystem::path& path);

// Mean loss over the last 10 % of the steps (at least one), without those skipped; nothing if no step is left.
std::optional<double> final_train_loss(const std::vector<StepMetrics>& steps, std::int64_t total_steps);

}  // namespace ufp4
