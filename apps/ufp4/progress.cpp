#include "progress.h"

#include <fmt/core.h>
#include <unistd.h>

#include <utility>

#include "say.h"

namespace ufp4::app {

Progress::Progress(std::string what, std::uint64_t total)
    : what_(std::move(what)),
      total_(total),
      terminal_(::isatty(STDERR_FILENO) == 1),
      start_(Clock::now()),
      next_(start_ + std::chrono::seconds(terminal_ ? 1 : 10)) {}

Progress::~Progress() {
  if (line_open_) say("\r\x1b[K");
}

void Progress::show(std::uint64_t done) {
  const Clock::time_point now = Clock::now();
  if (now < next_ || done == 0) return;
  next_ = now + (terminal_ ? std::chrono::milliseconds(200) : std::chrono::seconds(10));
  const double seconds = std::chrono::duration<double>(now - start_).count();
  const double rate = static_cast<double>(done) / seconds;
  const double left = static_cast<double>(total_ - done) / rate;
  const std::string line = fmt::format("{}: {:.0f} % of {:.2f} GB, {:.2f} GB/s, {:.0f} s left", what_,
                                       100.0 * static_cast<double>(done) / static_cast<double>(total_),
                                       static_cast<double>(total_) / 1e9, rate / 1e9, left);
  if (terminal_) {
    say("\r\x1b[K" + line);
    line_open_ = true;
  } else {
    say(line + "\n");
  }
}

}  // namespace ufp4::app
