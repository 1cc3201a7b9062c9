// Threads that share a piece of work, and the first failure among them.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace ufp4::io {

class Workers {
 public:
  // Calls work(0), work(1), .. work(count - 1), each on a thread of its own.
  Workers(std::size_t count, std::function<void(std::size_t)> work);

  // Whether all of them end within this time.
  bool end_within(std::chrono::milliseconds time);

  // Waits for all, and throws what the first one that failed threw.
  void join();

 private:
  void run(std::size_t index);

  std::function<void(std::size_t)> work_;
  std::mutex mutex_;
  std::condition_variable ended_;
  std::size_t running_;
  std::exception_ptr failure_;
  std::vector<std::jthread> threads_;  // last: they are joined before the rest goes
};

}  // namespace ufp4::io
