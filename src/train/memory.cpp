#include "train/memory.h"

#include <ATen/Context.h>
#include <ATen/core/CachingHostAllocator.h>
#include <c10/core/CachingDeviceAllocator.h>

#include <sys/resource.h>
#include <algorithm>
#include <cmath>
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

// Throws InputError if nothing can wait in the memory of the host, or not so much.
void check_host_memory(const RunConfig& config, const c10::Device& device, double need) {
  if (config.train.offload_layers == 0) return;
  const std::string setting = "train.offload_layers is " + std::to_string(config.train.offload_layers);
  if (device.is_cpu()) {
    throw InputError(setting + ", but the run is on the CPU, which has activations in its memory anyway, expected 0");
  }
  // What an earlier run of this process has left with torch.
  if (at::hasCUDA()) at::getHostAllocator(device.type())->empty_cache();
  const double available = available_host_memory();
  if (need <= available) return;
  throw InputError(setting + ", which takes " + gib(need) + " of the host's memory, but " + gib(available) +
                   " are free there: lower it");
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
  const double stash = !quantized(Gemm::kWgrad) ? 2 : config.train.stash == StashKind::kPacked ? 0.75 : 0;
  MemoryEstimate estimate;
  estimate.stash_bytes = stash;
  estimate.state = parameters * (3 * 4 + operands);
  estimate.gradients = parameters * 4;
  const std::int64_t tokens = config.train.micro_batch * config.model.context;
  const std::int64_t keeping = config.model.layers - offloaded_layers(config) - recomputed_layers(config);
  estimate.activations = activation_bytes(config.model, tokens, stash, keeping) +
                         loss_bytes(tokens, config.model.d_model, config.model.vocab_size, device);
  // torch takes page-locked memory in powers of two.
  estimate.host = static_cast<double>(offloaded_layers(config)) *
                  std::exp2(std::ceil(std::log2(fc1_result_bytes(config.model, tokens))));
  estimate.total = estimate.state + (one_pass ? std::max(estimate.gradients, estimate.activations)
                                              : estimate.gradients + estimate.activations);
  return estimate;
}

std::string ways_to_less_memory(const RunConfig& config, const c10::Device& device) {
  const auto now = [](std::int64_t value) { return " (" + std::to_string(value) + ")"; };
  std::string ways = "lower train.micro_batch" + now(config.train.micro_batch) +
                     ", while train.batch may stay, or model.context" + now(config.model.context);
  if (!device.is_cpu() && offloaded_layers(config) < config.model.layers - 1) {
    ways += ", raise train.offload_layers" + now(offloaded_layers(config));
  }
  if (config.train.recompute == Recompute::kNone) ways += ", set train.recompute to ffn";
  return ways + ", or choose a smaller model";
}

double available_memory(const c10::Device& device) {
  if (device.is_cpu()) return available_host_memory();
  c10::DeviceAllocator* const allocator = c10::getDeviceAllocator(device.type());
  if (allocator->initialized()) allocator->emptyCache();  // what an earlier run of this process has left there
  return static_cast<double>(allocator->getMemoryInfo(device.index()).first);
}

void check_memory(const RunConfig& config, const c10::Device& device) {
  const MemoryEstimate need = estimate_memory(config, device);
  check_host_memory(config, device, need.host);
  const double available = available_memory(device);
  if (need.total <= available) return;
  const bool model_too_large = need.state + need.gradients > available;
  throw InputError("the run needs about " + gib(need.total) + " (" + gib(need.state) + " for " +
                   std::to_string(parameter_count(config.model)) + " parameters with optimizer state, " +
                   gib(need.gradients) + " for gradients, " + gib(need.activations) +
                   " for the activations of a micro-batch of " + std::to_string(config.train.micro_batch) + " x " +
                   std::to_string(config.model.context) + " tokens), but " + gib(available) + " are free on " +
                   device.str() + ": " +
                   (model_too_large ? "lower model.d_model or model.layers, or choose a smaller model"
                                    : ways_to_less_memory(config, device)));
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
