#include "cuda/int8_product.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <string>

#include "cuda/int8_kernels.h"
#include "cuda/kernels.h"
#include "ufp4/error.h"

namespace ufp4::cuda {
namespace {

constexpr std::int64_t kAlignment = 16;

bool aligned(const void* p) { return reinterpret_cast<std::uintptr_t>(p) % kAlignment == 0; }

std::int64_t result_size(const Int8Product& p) { return p.result == Int8Result::kBf16 ? 2 : 4; }

// A single row may say any stride; the hardware wants one that it could have.
Int8Operand placed(const Int8Product& p, const char* name, Int8Operand operand, std::int64_t rows) {
  if (rows == 1) operand.row_stride = p.k;
  if (aligned(operand.values) && operand.row_stride % kAlignment == 0) return operand;
  throw InputError(describe(p) + ": operand " + name + " does not begin at a multiple of 16 bytes in each row (" +
                   std::to_string(operand.row_stride) + " bytes apart)");
}

Int8Task task_of(const Int8Product& p, const Int8Launch& how) {
  Int8Task task{};
  task.a_scales = p.a.scales;
  task.b_scales = p.b.scales;
  task.a_scale_row = p.a.scale_row_stride;
  task.a_scale_segment = p.a.scale_segment_stride;
  task.b_scale_row = p.b.scale_row_stride;
  task.b_scale_segment = p.b.scale_segment_stride;
  task.out = p.out;
  task.out_row_stride = p.out_row_stride;
  task.offsets = p.offsets;
  task.m = static_cast<int>(p.m);
  task.n = static_cast<int>(p.n);
  task.k = static_cast<int>(p.k);
  task.piece = static_cast<int>(piece_of(p));
  task.segment = static_cast<int>(p.segment);
  task.groups = static_cast<int>(p.groups);
  task.grouped = p.grouped;
  task.result = p.result;
  task.share = how.share;
  task.unit_rows = unit_rows(how);
  task.unit_columns = unit_columns(how);
  task.band = how.band;
  task.in_turn = how.in_turn;
  const int run = p.result == Int8Result::kBf16 ? 8 : 4;
  const bool vectors = p.n % (4 * run) == 0 && aligned(p.out) && p.out_row_stride * result_size(p) % kAlignment == 0;
  task.run = vectors ? run : 2;
  return task;
}

void clear_result(const Int8Product& p, std::int64_t rows, Stream stream) {
  if (p.result == Int8Result::kF32Added) return;
  const auto width = static_cast<std::size_t>(p.n * result_size(p));
  const auto pitch = std::max(width, static_cast<std::size_t>(p.out_row_stride * result_size(p)));
  const cudaError_t error = cudaMemset2DAsync(p.out, pitch, 0, width, static_cast<std::size_t>(rows), stream);
  if (error != cudaSuccess) throw RunError(describe(p) + ": " + cudaGetErrorString(error));
}

}  // namespace

DeviceStatus int8_status() {
  DeviceStatus status = device_status();
  if (!status.usable) return status;
  int device = 0;
  int major = 0;
  if (cudaGetDevice(&device) == cudaSuccess &&
      cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess && major >= 8) {
    return status;
  }
  return {false, status.sentence + " has no INT8 tensor cores for products of k in steps of 32"};
}

void int8_product(const Int8Product& product, Stream stream) {
  int8_product(product, Int8Kernel::kBest, std::nullopt, stream);
}

void int8_product(const Int8Product& product, Int8Kernel kernel, const std::optional<Int8Launch>& launch,
                  Stream stream) {
  check(product);
  if (product.m == 0 || product.n == 0) return;
  if (product.k == 0) {
    clear_result(product, product.m * (product.grouped == Int8Groups::kDepth ? product.groups : 1), stream);
    return;
  }
  Int8Product p = product;
  if (p.grouped == Int8Groups::kNone) p.groups = 1;
  p.a = placed(p, "a", p.a, p.m);
  p.b = placed(p, "b", p.b, p.grouped == Int8Groups::kRows ? p.groups * p.n : p.n);
  const bool has = has_wgmma();
  if (kernel == Int8Kernel::kWgmma && !has) {
    throw InputError(describe(p) + ": this device, or this build, has no products of warpgroups (Hopper)");
  }
  if (kernel == Int8Kernel::kMma || !has) {
    launch_int8_mma(p, task_of(p, {}), stream);
    return;
  }
  const Int8Launch how = launch ? *launch : int8_launch(p, multiprocessors());
  const auto all = int8_launches(p);
  if (std::find(all.begin(), all.end(), how) == all.end()) {
    throw InputError(describe(p) + ": cannot run as " + describe(how));
  }
  launch_int8_wgmma(p, task_of(p, how), how, stream);
}

}  // namespace ufp4::cuda
