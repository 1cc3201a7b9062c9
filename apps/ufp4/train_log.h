// The log of a training run on stderr: lines with the time of day, and on a terminal a last line with rate and time
// left. Where nobody takes what is written there (closed, a pipe without a reader, a terminal that is gone) the log
// goes on to train.log in the run's folder, with the line that was lost.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "train/trainer.h"

namespace spdlog {
class logger;
}

namespace ufp4::app {

// "1:02:03", "4:05".
std::string duration(double seconds);

class TrainLog {
 public:
  TrainLog();
  ~TrainLog();
  TrainLog(const TrainLog&) = delete;
  TrainLog& operator=(const TrainLog&) = delete;

  // A run of `config` starts; `label` stands before its lines.
  void start(const RunConfig& config, const std::string& label);
  void info(const std::string& message);
  // What ends the program. On stderr it is for others to say.
  void error_in_file(const std::string& message);
  // For train(): they write to this log and must not outlive it.
  TrainEvents events();

 private:
  using Clock = std::chrono::steady_clock;
  enum class Level : std::uint8_t { kInfo, kWarning, kError };

  void line(Level level, const std::string& message);
  void go_on_in_file();
  void step(const StepMetrics& metrics);
  void clear_line();

  std::shared_ptr<spdlog::logger> logger_;  // null: there is no folder to write to yet
  bool in_file_ = false;
  std::filesystem::path folder_;                        // of the run, once it is held
  std::vector<std::pair<Level, std::string>> waiting_;  // for the folder
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
