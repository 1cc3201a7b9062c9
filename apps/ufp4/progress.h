// Progress of long work on stderr: one line that is rewritten on a terminal, a plain line now and then otherwise.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace ufp4::app {

class Progress {
 public:
  // `what` starts every line; `total` is in bytes.
  Progress(std::string what, std::uint64_t total);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // Shows how far the work is, with rate and time left, if it is time to. Call it as often as you like.
  void show(std::uint64_t done);

 private:
  using Clock = std::chrono::steady_clock;

  std::string what_;
  std::uint64_t total_;
  bool terminal_;
  bool line_open_ = false;
  Clock::time_point start_;
  Clock::time_point next_;
};

}  // namespace ufp4::app
