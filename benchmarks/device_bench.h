// Measures the kernels of a GPU against the copy rate of the same device in the same run. Free of torch; `ufp4 bench`
// and docs/performance.md take their figures from here.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace ufp4::bench {

// One line of the table.
struct DeviceRow {
  std::string kernel;
  double bytes = 0;         // the least that must be read and written
  double microseconds = 0;  // median between events
  double share_of_copy = 0;
  double of_quantize = 0;  // time against the quantization alone of the same results, 0 where nothing is fused or added
  double of_parts = 0;     // and against the sum of the kernels that a fused one stands for
};

// What a training step quantizes, of a BF16 matrix [rows, columns], alone and fused with the layer that makes it, and
// the layers themselves. Needs a device that cuda::device_status calls usable and memory for some 30 such matrices.
// Throws RunError if the device fails.
void measure_device(std::int64_t rows, std::int64_t columns, int repeats,
                    const std::function<void(const DeviceRow&)>& row);

}  // namespace ufp4::bench
