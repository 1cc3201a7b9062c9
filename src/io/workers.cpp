#include "io/workers.h"

#include <utility>

namespace ufp4::io {

Workers::Workers(std::size_t count, std::function<void(std::size_t)> work) : work_(std::move(work)), running_(count) {
  threads_.reserve(count);
  for (std::size_t i = 0; i < count; ++i) threads_.emplace_back([this, i] { run(i); });
}

void Workers::run(std::size_t index) {
  std::exception_ptr failure;
  try {
    work_(index);
  } catch (...) {
    failure = std::current_exception();
  }
  const std::lock_guard lock(mutex_);
  if (!failure_) failure_ = failure;
  --running_;
  ended_.notify_one();
}

bool Workers::end_within(std::chrono::milliseconds time) {
  std::unique_lock lock(mutex_);
  return ended_.wait_for(lock, time, [this] { return running_ == 0; });
}

void Workers::join() {
  threads_.clear();
  if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
}

}  // namespace ufp4::io
