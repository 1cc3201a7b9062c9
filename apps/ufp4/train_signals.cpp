#include "train_signals.h"

#include <csignal>
#include <cstdint>
#include <ctime>

namespace ufp4::app {
namespace {

std::atomic<bool> stop{false};
std::atomic<std::int64_t> first_signal{0};  // when it came, in milliseconds; 0: none has
static_assert(std::atomic<bool>::is_always_lock_free && std::atomic<std::int64_t>::is_always_lock_free,
              "set in a signal handler");

// Programs that end others, timeout(1) among them, may send the same signal twice at once: only one that comes later is
// meant.
constexpr std::int64_t kTogether = 1000;

void request_stop(int number) {
  std::timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  const std::int64_t now = std::int64_t{time.tv_sec} * 1000 + time.tv_nsec / 1'000'000 + 1;
  std::int64_t first = 0;
  if (first_signal.compare_exchange_strong(first, now)) {
    stop = true;
  } else if (now - first > kTogether) {
    std::signal(number, SIG_DFL);
    std::raise(number);
  }
}

}  // namespace

const std::atomic<bool>& stopped_by_signal() {
  std::signal(SIGPIPE, SIG_IGN);
  struct sigaction action {};
  action.sa_handler = request_stop;
  action.sa_flags = SA_RESTART;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  struct sigaction before {};
  sigaction(SIGHUP, nullptr, &before);
  if (before.sa_handler != SIG_IGN) sigaction(SIGHUP, &action, nullptr);
  return stop;
}

}  // namespace ufp4::app
