// A named stretch of a training step, for profilers (NVTX ranges, seen by Nsight Systems). Costs nothing without one;
// in a build without CUDA it is nothing at all.
#pragma once

namespace ufp4 {

class Phase {
 public:
  explicit Phase(const char* name) { begin(name); }
  ~Phase() { end(); }
  Phase(const Phase&) = delete;
  Phase& operator=(const Phase&) = delete;

 private:
  static void begin(const char* name);
  static void end();
};

}  // namespace ufp4
