// Work on a GPU that is recorded once and then replayed with a single launch (a CUDA graph). Elsewhere it just runs.
#pragma once

#include <c10/core/Device.h>

#include <functional>
#include <memory>

namespace ufp4 {

// Everything that `work` reads and writes must stay where it is, and what changes from run to run must be read from
// device memory: numbers that the host passes to a kernel are recorded with it. A replay has the bits of a run.
class RecordedWork {
 public:
  // On a GPU the calling thread's stream is, while this object lives, one that the thread keeps for such work. With
  // `record` false every run is a plain one.
  RecordedWork(const c10::Device& device, bool record);
  ~RecordedWork();
  RecordedWork(const RecordedWork&) = delete;
  RecordedWork& operator=(const RecordedWork&) = delete;

  // Runs `work`: the first times as it is, so that all that is allocated once is there, then recorded, then replayed.
  // Must be given the same work every time.
  void run(const std::function<void()>& work);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace ufp4
