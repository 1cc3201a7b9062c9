// What a device can do at best, so that a rate can be read as a share of it (model FLOP/s utilization).
#pragma once

#include <optional>
#include <string_view>

namespace ufp4 {

// The dense BF16 rate with FP32 accumulation that the maker states for a device, 10^12 operations a second. `name` as
// the driver gives it: "NVIDIA H100 80GB HBM3". Nothing for a device that is not in the table.
std::optional<double> peak_bf16_tflops(std::string_view name);

}  // namespace ufp4
