#include "torch/recorded_work.h"

#ifdef UFP4_HAVE_CUDA
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <map>
#include <utility>
#endif

namespace ufp4 {

#ifdef UFP4_HAVE_CUDA

namespace {

constexpr int kPlainRuns = 2;

// What was enqueued on other streams before is waited for. One for a device: torch keeps the workspaces of its
// products, 64 MiB on a Hopper, for each stream that there has been.
c10::cuda::CUDAStream own_stream(const c10::Device& device) {
  c10::cuda::device_synchronize();
  thread_local std::map<c10::DeviceIndex, c10::cuda::CUDAStream> streams;
  const auto found = streams.find(device.index());
  if (found != streams.end()) return found->second;
  return streams.emplace(device.index(), c10::cuda::getStreamFromPool(false, device.index())).first->second;
}

// Ends a recording that an exception has cut short. Where that leaves it invalid, torch's allocator goes on asking it
// what it has recorded: then it is never destroyed.
void give_up(std::unique_ptr<at::cuda::CUDAGraph> graph) {
  try {
    graph->capture_end();
  } catch (const c10::Error&) {
    static_cast<void>(cudaGetLastError());
    static_cast<void>(graph.release());
  }
}

}  // namespace

struct RecordedWork::Impl {
  explicit Impl(const c10::Device& device, bool r) : record(r), stream(own_stream(device)) {}
  ~Impl() {
    try {
      c10::cuda::device_synchronize();
    } catch (const c10::Error&) {  // of a device that has failed: its memory goes with the process
      static_cast<void>(graph.release());
    }
  }

  bool record;
  c10::cuda::CUDAStreamGuard stream;
  int runs = 0;
  std::unique_ptr<at::cuda::CUDAGraph> graph;
};

RecordedWork::RecordedWork(const c10::Device& device, bool record)
    : impl_(device.is_cuda() ? std::make_unique<Impl>(device, record) : nullptr) {}

void RecordedWork::run(const std::function<void()>& work) {
  if (impl_ == nullptr || !impl_->record || impl_->runs < kPlainRuns) {
    if (impl_ != nullptr) ++impl_->runs;
    return work();
  }
  if (impl_->graph == nullptr) {
    c10::cuda::device_synchronize();
    c10::cuda::CUDACachingAllocator::emptyCache();  // the recording has memory of its own
    auto graph = std::make_unique<at::cuda::CUDAGraph>();
    graph->capture_begin();
    try {
      work();
    } catch (...) {
      give_up(std::move(graph));
      throw;
    }
    graph->capture_end();
    impl_->graph = std::move(graph);
  }
  impl_->graph->replay();
}

#else

struct RecordedWork::Impl {};

RecordedWork::RecordedWork(const c10::Device& /*device*/, bool /*record*/) {}

void RecordedWork::run(const std::function<void()>& work) { work(); }

#endif

RecordedWork::~RecordedWork() = default;

}  // namespace ufp4
