// A quantization whose data lie in the memory of a device, and what is known only there when the work runs: numbers
// that another step or layer changes without recording the work again.
#pragma once

#include <cstdint>

#include "ufp4/quantize.h"

namespace ufp4 {

// Numbers of a place in the memory of the device; null: the Place has them.
struct DevicePlace {
  const std::uint32_t* step = nullptr;       // stands for Place::step
  const std::uint32_t* layer = nullptr;      // kStreamsPerLayer times it is added to Place::stream
  const std::uint32_t* first_row = nullptr;  // added to the offset of the stored rows, whatever the axis
};

// Random streams that a layer has: one an operand, and room.
inline constexpr std::uint32_t kStreamsPerLayer = 8;

// Pointers of the task are of the device's memory, outer_amax and row_numbers too.
struct DeviceTask {
  QuantizeTask task;
  DevicePlace place;
  // For formats with a window of scales: a number in device memory; where it is 0 the results are left as they are. Two
  // tasks that read the matrix once are left alone only if both numbers are 0.
  const std::uint32_t* only_if = nullptr;
};

}  // namespace ufp4
