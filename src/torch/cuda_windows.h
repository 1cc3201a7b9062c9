// Quantization on a GPU whose second-level scales are chosen there: from what windows expect, or exactly.
#pragma once

#include <functional>
#include <span>

#include "torch/window.h"
#include "ufp4/quantize.h"

namespace ufp4 {

// Calls `quantize` with tasks whose amax is known on the device when the kernels run: once for what needs nothing more,
// and a second time for the tasks of formats with a window, for those operands that did not fit (all of them, where
// nothing is expected: the first call then only finds the amax). `windows`: one for each task, or none.
void quantize_in_windows(std::span<const QuantizeTask> tasks, std::span<const Window> windows,
                         const std::function<void(std::span<const QuantizeTask>)>& quantize);

}  // namespace ufp4
