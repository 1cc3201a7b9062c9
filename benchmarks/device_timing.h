// Timing on a GPU: medians between events, against the copy rate of the same device in the same run.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "ufp4/error.h"

namespace ufp4::bench {

inline constexpr int kRepeats = 31;
inline constexpr int kWarmups = 3;

inline void check(cudaError_t error) {
  if (error != cudaSuccess) throw RunError(std::string("CUDA: ") + cudaGetErrorString(error));
}

template <typename T>
T* device_array(std::int64_t count) {
  void* data = nullptr;
  const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(T);
  if (cudaMalloc(&data, bytes) == cudaErrorMemoryAllocation) {
    std::size_t available = 0;
    std::size_t total = 0;
    check(cudaMemGetInfo(&available, &total));
    throw RunError("the GPU has no " + std::to_string(bytes) + " bytes more for the benchmark's matrices (" +
                   std::to_string(available) + " of " + std::to_string(total) + " are free); choose a smaller size");
  }
  check(cudaGetLastError());
  return static_cast<T*>(data);
}

inline __device__ std::uint64_t hash_bits(std::int64_t i) {
  std::uint64_t x = static_cast<std::uint64_t>(i) * 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  return (x ^ (x >> 27)) * 0x94D049BB133111EBu;
}

// A roughly normal value from the bits of a hash: the sum of its bytes.
inline __device__ float roughly_normal(std::uint64_t bits) {
  float sum = 0;
  for (int k = 0; k < 8; ++k) sum += static_cast<float>((bits >> (8 * k)) & 0xFF) / 256 - 0.5F;
  return sum;
}

static __global__ void copy_kernel(const uint4* from, uint4* to, std::int64_t count) {
  const std::int64_t stride = std::int64_t{gridDim.x} * blockDim.x;
  std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  for (; i + 3 * stride < count; i += 4 * stride) {
    const uint4 a = from[i], b = from[i + stride], c = from[i + 2 * stride], d = from[i + 3 * stride];
    to[i] = a, to[i + stride] = b, to[i + 2 * stride] = c, to[i + 3 * stride] = d;
  }
  for (; i < count; i += stride) to[i] = from[i];
}

// Median microseconds of one run; `inner` runs between two events for kernels as short as a launch.
inline double measure(int sets, int inner, const std::function<void(int)>& run, int repeats = kRepeats) {
  cudaEvent_t start, stop;
  check(cudaEventCreate(&start));
  check(cudaEventCreate(&stop));
  std::vector<double> times;
  int set = 0;
  for (int i = 0; i < kWarmups + repeats; ++i) {
    check(cudaEventRecord(start));
    for (int k = 0; k < inner; ++k) run(set++ % sets);
    check(cudaEventRecord(stop));
    check(cudaEventSynchronize(stop));
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, start, stop));
    if (i >= kWarmups) times.push_back(1000.0 * milliseconds / inner);
  }
  check(cudaEventDestroy(start));
  check(cudaEventDestroy(stop));
  std::nth_element(times.begin(), times.begin() + repeats / 2, times.end());
  return times[static_cast<std::size_t>(repeats / 2)];
}

inline void print_row(const std::string& name, double bytes, double us, double copy_rate, double base_us) {
  std::printf("%-58s %9.1f MB %9.2f us %8.1f GB/s  %5.3f of copy", name.c_str(), bytes / 1e6, us, bytes / us / 1e3,
              bytes / us / copy_rate);
  if (base_us > 0) std::printf("  %5.3f x", us / base_us);
  std::printf("\n");
}

// Bytes a microsecond of the fastest copy of `bytes` bytes, counted as read plus written; prints the two ways.
inline double copy_rate(const std::vector<void*>& from, const std::vector<void*>& to, std::int64_t bytes, int inner) {
  const int sets = static_cast<int>(from.size());
  const double memcpy_us = measure(sets, inner, [&](int s) {
    const auto set = static_cast<std::size_t>(s);
    check(cudaMemcpyAsync(to[set], from[set], static_cast<std::size_t>(bytes), cudaMemcpyDeviceToDevice));
  });
  double copy_us = 0;
  for (const int blocks : {132 * 4, 132 * 8, 132 * 16}) {
    const double us = measure(sets, inner, [&](int s) {
      const auto set = static_cast<std::size_t>(s);
      copy_kernel<<<blocks, 256>>>(static_cast<const uint4*>(from[set]), static_cast<uint4*>(to[set]), bytes / 16);
    });
    if (copy_us == 0 || us < copy_us) copy_us = us;
  }
  const double moved = 2.0 * static_cast<double>(bytes);
  const double rate = moved / std::min(memcpy_us, copy_us);
  print_row("cudaMemcpyAsync", moved, memcpy_us, rate, 0);
  print_row("copy kernel, the best of three grids", moved, copy_us, rate, 0);
  return rate;
}

}  // namespace ufp4::bench
