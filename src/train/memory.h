// Memory of a run: how much it will need, how much there is, how much it has taken.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <string>

#include "config/run_config.h"

namespace ufp4 {

struct MemoryEstimate {
  double state = 0;        // FP32 weights and two moments, and the operands of the weights that are kept for a step
  double gradients = 0;    // FP32
  double activations = 0;  // of one micro-batch
  double stash_bytes = 0;  // within them, of an element of a linear's input
  double host = 0;         // page-locked memory of the host for train.offload_layers
  // On the device at most at a time: the only micro-batch of a step has its activations before its gradients.
  double total = 0;
};

// About; layers that a quantized recipe keeps in BF16 count as quantized. Needs the vocabulary to be known.
MemoryEstimate estimate_memory(const RunConfig& config, const c10::Device& device);

// What of the settings can be changed so that activations take less, as the end of a sentence: "lower ..".
std::string ways_to_less_memory(const RunConfig& config, const c10::Device& device);

// Bytes that can still be taken: of the machine or of the process's control group, whichever is less, or of the GPU.
double available_memory(const c10::Device& device);

// Throws InputError with the numbers and the settings to change if the run will not fit, or is to offload activations
// of a CPU, whose memory has them already. Nothing is allocated.
void check_memory(const RunConfig& config, const c10::Device& device);

// From here on the device's allocator notes the most it holds anew; a process's cannot be.
void begin_peak_memory(const c10::Device& device);

// The most that this process (cpu) has held, or the device's allocator (cuda) since begin_peak_memory.
std::int64_t peak_memory(const c10::Device& device);

}  // namespace ufp4
