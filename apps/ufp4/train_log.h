// The log of a training run on stderr: lines with the time of day, and on a terminal a last line with rate and time
// left.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "train/trainer.h"

namespace spdlog {
class logger;
}

namespace ufp4::app {

class TrainLog {
 public:
  TrainLog();
  ~TrainLog();
  TrainLog(const TrainLog&) = delete;
  TrainLog& operator=(const TrainLog&) = delete;

  // A run of `config` starts; `label` stands before its lines.
  void start(const RunConfig& config, const std::string& label);
  void info(const std::string& message);
  // For train(): they write to this log and must not outlive it.
  TrainEvents events();

 private:
  using Clock = std::chrono::steady_clock;

  void step(const StepMetrics& metrics);
  void clear_line();

  std::shared_ptr<spdlog::logger> logger_;
  std::string label_;
  std::int64_t steps_ = 0;
  std::int64_t log_every_ = 1;
  std::int64_t first_step_ = 0;   // of this start, 0 before it is known
  std::int64_t requantized_ = 0;  // since the last line
  Clock::time_point begin_;
  bool terminal_;
  bool line_open_ = false;
};

}  // namespace ufp4::app
