// A named stretch of a training step, for profilers (NVTX ranges, seen by Nsight Systems). Costs nothing without one;
// in a build without CUDA it is nothing at all.
#pragma once

namespace ufp4 {

class Phase {
 public:
  explicit Phase(const char* name);
  ~Phase();
  Phase(const Phase&) = delete;
  Phase& operator=(const Phase&) = delete;
};

}  // namespace ufp4
