#include "train/memory.h"

#include <c10/core/CachingDeviceAllocator.h>

#include <sys/resource.h>
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <limits>
#include <string>

#include "model/loss.h"
#include "torch/linear_passes.h"
#include "ufp4/error.h"

namespace ufp4 {
namespace {

constexpr double kGiB = 1024.0 * 1024.0 * 1024.0;

std::string gib(double bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f GiB", bytes / kGiB);
  return text;
}

// The first number of a file under /sys/fs/cgroup; infinity if there is none ("max").
double cgroup_number(const char* path) {
  std::ifstream file(path);
  double value = 0;
  return file >> value ? value : std::numeric_limits<double>::infinity();
}

double available_host_memory() {
  double available = std::numeric_limits<double>::infinity();
  std::ifstream file("/proc/meminfo");
  std::string key;
  double kib = 0;
  for (std::string unit; file >> key >> kib; std::getline(file, unit)) {
    if (key == "MemAvailable:") available = kib * 1024;
  }
  const double limit = cgroup_number("/sys/fs/cgroup/memory.max");
  const double used = cgroup_number("/sys/fs/cgroup/memory.current");
  // Pages of files count as used, yet are given back on demand.
  double cache = 0;
  std::ifstream stat("/sys/fs/cgroup/memory.stat");
  double bytes = 0;
  while (stat >> key >> bytes) {
    if (key == "inactive_file" || key == "active_file") cache += bytes;
  }
  if (limit < std::numeric_limits<double>::infinity() && used < limit)
    available = std::min(available, limit - used + cache);
  return available;
}

}  // namespace

MemoryEstimate estimate_memory(const RunConfig& config, const c10::Device& device) {
  const auto parameters = static_cast<double>(parameter_count(config.model));
  const auto quantized = [&](Gemm gemm) { return config.recipe[gemm].operand[1].quantized(); };
  const bool one_pass = config.train.micro_batch == config.train.batch;
  const bool made_by_passes = one_pass && quantizes_weight(config.recipe);
  const bool one_matrix = !quantized(Gemm::kFprop) && !quantized(Gemm::kDgrad);
  const double operands = made_by_passes ? 0 : one_matrix ? 2 : 4;  // in BF16, at most
  // 4 bits and an FP32 scale for 16 elements; or BF16.
  const double stash = !quantized(Gemm::kWgrad) ? 2 : config.train.stash == "packed" ? 0.75 : 0;
  MemoryEstimate estimate;
  estimate.state = parameters * (3 * 4 + operands);
  estimate.gradients = parameters * 4;
  const std::int64_t tokens = config.train.micro_batch * config.model.context;
  estimate.activations = activation_bytes(config.model, tokens, stash, recomputed_layers(config)) +
                         loss_bytes(tokens, config.model.d_model, config.model.vocab_size, device);
  estimate.total = estimate.state + (one_pass ? std::max(estimate.gradients, estimate.activations)
                                              : estimate.gradients + estimate.activations);
  return estimate;
}

double available_memory(const c10::Device& device) {
  if (device.is_cpu()) return available_host_memory();
  c10::DeviceAllocator* const allocator = c10::getDeviceAllocator(device.type());
  if (allocator->initialized()) allocator->emptyCache();  // what an earlier run of this process has left there
  return static_cast<double>(allocator->getMemoryInfo(device.index()).first);
}

void check_memory(const RunConfig& config, const c10::Device& device) {
  const MemoryEstimate need = estimate_memory(config, device);
  const double available = available_memory(device);
  if (need.total <= available) return;
  const bool model_too_large = need.state + need.gradients > available;
  throw InputError("the run needs about " + gib(need.total) + " (" + gib(need.state) + " for " +
                   std::to_string(parameter_count(config.model)) + " parameters with optimizer state, " +
                   gib(need.gradients) + " for gradients, " + gib(need.activations) +
                   " for the activations of a micro-batch of " + std::to_string(config.train.micro_batch) + " x " +
                   std::to_string(config.model.context) + " tokens), but " + gib(available) + " are free on " +
                   device.str() + ": lower " +
                   (model_too_large ? "model.d_model or model.layers, or choose a smaller model"
                                    : "train.micro_batch (train.batch may stay) or model.context"));
}

void begin_peak_memory(const c10::Device& device) {
  if (device.is_cpu()) return;
  c10::DeviceAllocator* const allocator = c10::getDeviceAllocator(device.type());
  if (allocator->initialized()) allocator->resetPeakStats(device.index());
}

std::int64_t peak_memory(const c10::Device& device) {
  if (device.is_cpu()) {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return static_cast<std::int64_t>(usage.ru_maxrss) * 1024;
  }
  const auto stats = c10::getDeviceAllocator(device.type())->getDeviceStats(device.index());
  return stats.allocated_bytes[0].peak;
}

}  // namespace ufp4
