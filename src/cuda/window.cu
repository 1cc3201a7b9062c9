#include "cuda/window.h"

#include <algorithm>

#include "cuda/kernels.h"
#include "cuda/scale.cuh"
#include "numerics/window.h"

namespace ufp4::cuda {
namespace {

constexpr int kUses = 8;

struct Uses {
  WindowUse use[kUses];
  float divisor[kUses], least_amax[kUses];  // of their formats, whose rows are in host memory
  int count;
};

__global__ void settle_windows(const __grid_constant__ Uses uses) {
  const int i = static_cast<int>(threadIdx.x);
  if (i >= uses.count) return;
  const WindowUse& use = uses.use[i];
  const float found = *use.found;
  const float least = uses.least_amax[i];
  const Settled settled = settle_window(*use.expected, found, least);
  *use.found = 0;
  *use.amax = settled.amax;
  *use.again = settled.again ? 1 : 0;
  if (use.outer_scale != nullptr) *use.outer_scale = outer_scale(uses.divisor[i], least, settled.amax);
  if (use.seen != nullptr) *use.seen = fmaxf(*use.seen, found);
  if (use.left != nullptr && settled.left) ++*use.left;
}

}  // namespace

void settle(std::span<const WindowUse> all, Stream stream) {
  while (!all.empty()) {
    const std::size_t count = std::min<std::size_t>(all.size(), kUses);
    Uses uses{};
    uses.count = static_cast<int>(count);
    std::copy_n(all.begin(), count, uses.use);
    for (std::size_t i = 0; i < count; ++i) {
      uses.divisor[i] = all[i].format->outer_divisor;
      uses.least_amax[i] = all[i].format->outer_least;
    }
    settle_windows<<<1, kUses, 0, stream>>>(uses);
    check_launch("settle_windows", uses.count, 1);
    all = all.subspan(count);
  }
}

}  // namespace ufp4::cuda
