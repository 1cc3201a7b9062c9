// Second-level scales that are chosen on the device, between a first quantization and a second one that takes place
// only where the first left its window (numerics/window.h). Nothing waits for the host.
#pragma once

#include <cstdint>
#include <span>

#include "cuda/quantize.h"
#include "ufp4/format.h"

namespace ufp4::cuda {

// One operand between the two. All pointers but the first are of device memory.
struct WindowUse {
  const BlockFormat* format = nullptr;
  const float* expected = nullptr;  // what the first quantization took as amax
  float* found = nullptr;           // what it raised Quantized::amax to; 0 afterwards
  float* amax = nullptr;            // written: what the operand's values are quantized with in the end
  std::uint32_t* again = nullptr;   // written: 1 if that is another than `expected`, DeviceTask::only_if
  float* outer_scale = nullptr;     // written: the scale that follows; null: not wanted
  float* seen = nullptr;            // raised to what was found; null: nobody asks
  std::int32_t* left = nullptr;     // counted up where something was expected and did not fit; null: nobody asks
};

// Asynchronous on the stream, like everything here.
void settle(std::span<const WindowUse> uses, Stream stream);

}  // namespace ufp4::cuda
