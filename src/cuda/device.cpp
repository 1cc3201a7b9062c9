// The device at hand: whether it serves, how large it is, and what an error says.
#include <cuda_runtime.h>

#include <string>

#include "cuda/kernels.h"
#include "ufp4/error.h"

namespace ufp4::cuda {
namespace {

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

std::string unusable(cudaError_t error) {
  int driver = 0;
  cudaDriverGetVersion(&driver);
  if (error == cudaErrorNoDevice) return "no NVIDIA GPU was found";
  if (error == cudaErrorInsufficientDriver) {
    if (driver == 0) return "no NVIDIA driver is installed";
    return "the NVIDIA driver supports CUDA " + version_text(driver) + "; this program was built with CUDA " +
           version_text(CUDART_VERSION) + " and needs a newer driver";
  }
  return std::string("CUDA cannot be used: ") + cudaGetErrorString(error);
}

}  // namespace

DeviceStatus device_status() {
  int count = 0;
  cudaError_t error = cudaGetDeviceCount(&count);
  int device = 0;
  cudaDeviceProp properties{};
  if (error == cudaSuccess) error = cudaGetDevice(&device);
  if (error == cudaSuccess) error = cudaGetDeviceProperties(&properties, device);
  if (error == cudaSuccess) error = static_cast<cudaError_t>(probe_kernel());
  cudaGetLastError();  // the runtime keeps the last error; it has been read
  if (error == cudaErrorNoKernelImageForDevice || error == cudaErrorInvalidDeviceFunction) {
    return {false, std::string(properties.name) + " has compute capability " + std::to_string(properties.major) + "." +
                       std::to_string(properties.minor) + "; this program was built for " UFP4_CUDA_ARCHITECTURES};
  }
  if (error != cudaSuccess) return {false, unusable(error)};
  return {true, properties.name};
}

std::int64_t multiprocessors() {
  int device = 0;
  int count = 0;
  cudaError_t error = cudaGetDevice(&device);
  if (error == cudaSuccess) error = cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device);
  if (error != cudaSuccess) throw RunError(unusable(error));
  return count;
}

bool has_clusters() {
  struct Known {
    int device = -1;
    bool clusters = false;
  };
  thread_local Known known;
  int device = 0;
  int major = 0;
  if (cudaGetDevice(&device) != cudaSuccess) return false;
  if (device == known.device) return known.clusters;
  if (cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) != cudaSuccess) return false;
  known = {device, major >= 9 && probe_architecture() >= 90};
  return known.clusters;
}

void check_launch(const char* kernel, std::int64_t rows, std::int64_t columns) {
  const cudaError_t error = cudaGetLastError();
  if (error == cudaSuccess) return;
  throw RunError(std::string("CUDA kernel ") + kernel + " on a matrix [" + std::to_string(rows) + ", " +
                 std::to_string(columns) + "]: " + cudaGetErrorString(error));
}

}  // namespace ufp4::cuda
