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
  int count;
};

__global__ void settle_windows(const __grid_constant__ Uses uses) {
  const int i = static_cast<int>(threadIdx.x);
  if (i >= uses.count) return;
  const WindowUse& use = uses.use[i];
  const float found = *use.found;
  const Settled settled = use.expected != nullptr ? settle_window(*use.expected, found) : Settled{true, found, false};
  *use.found = 0;
  *use.amax = settled.amax;
  *use.again = settled.again ? 1 : 0;
  if (use.outer_scale != nullptr) *use.outer_scale = outer_scale(settled.amax);
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
    settle_windows<<<1, kUses, 0, stream>>>(uses);
    check_launch("settle_windows", uses.count, 1);
    all = all.subspan(count);
  }
}

}  // namespace ufp4::cuda
