#include "late_device.h"

#include <ATen/EmptyTensor.h>
#include <ATen/core/Tensor.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <stdexcept>
#include <utility>
#include <vector>

namespace ufp4::late_device {
namespace {

constexpr c10::DeviceType kType = c10::DeviceType::PrivateUse1;
const c10::Device kDevice(kType, 0);

struct Event {
  std::int64_t recorded = 0;  // how often a stream was told to
  std::int64_t reached = 0;   // of those, the last that a stream has come to
};

// Returns whether it is done; false: not yet.
using Step = std::function<bool()>;

class Streams {
 public:
  static constexpr std::size_t kFirst = 0;
  static constexpr std::size_t kPool = 1;

  void begin(Order order) { order_ = order; }

  void tell(std::size_t stream, Step step) {
    queues_.at(stream).push_back(std::move(step));
    if (order_ != Order::kAny) return;
    for (auto n = random_() % 3; n > 0 && go_on(); --n) {
    }
  }

  void finish(std::size_t stream) {
    while (!queues_.at(stream).empty()) {
      if (!go_on()) throw std::logic_error("a stream waits for an event that nobody was told to record");
    }
  }

  std::size_t current() const { return current_; }
  std::size_t exchange(std::size_t stream) { return std::exchange(current_, stream); }

  Event* make_event() { return events_.emplace_back(std::make_unique<Event>()).get(); }

 private:
  // One step of one stream; false if none can.
  bool go_on() {
    std::array<std::size_t, 2> turn{kFirst, kPool};
    if (order_ == Order::kPoolFirst || (order_ == Order::kAny && random_() % 2 == 0)) std::swap(turn[0], turn[1]);
    return std::any_of(turn.begin(), turn.end(), [this](std::size_t stream) {
      std::deque<Step>& queue = queues_.at(stream);
      if (queue.empty() || !queue.front()()) return false;
      queue.pop_front();
      return true;
    });
  }

  Order order_ = Order::kAny;
  std::size_t current_ = kFirst;
  std::array<std::deque<Step>, 2> queues_;
  std::vector<std::unique_ptr<Event>> events_;
  std::mt19937 random_{1};
};

Streams& streams() {
  static Streams all;
  return all;
}

std::size_t number_of(const c10::Stream& stream) { return static_cast<std::size_t>(stream.id()); }

c10::Stream stream_of(std::size_t number) {
  return c10::Stream(c10::Stream::UNSAFE, kDevice, static_cast<c10::StreamId>(number));
}

struct Guard : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return kType; }
  c10::Device exchangeDevice(c10::Device /*device*/) const override { return kDevice; }
  c10::Device getDevice() const override { return kDevice; }
  void setDevice(c10::Device /*device*/) const override {}
  void uncheckedSetDevice(c10::Device /*device*/) const noexcept override {}
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }

  c10::Stream getStream(c10::Device /*device*/) const override { return stream_of(streams().current()); }
  c10::Stream getDefaultStream(c10::Device /*device*/) const override { return stream_of(Streams::kFirst); }
  c10::Stream getStreamFromGlobalPool(c10::Device /*device*/, bool /*high_priority*/) const override {
    return stream_of(Streams::kPool);
  }
  c10::Stream exchangeStream(c10::Stream stream) const override {
    return stream_of(streams().exchange(number_of(stream)));
  }
  void synchronizeStream(const c10::Stream& stream) const override { streams().finish(number_of(stream)); }

  void record(void** event, const c10::Stream& stream, c10::DeviceIndex /*device*/,
              c10::EventFlag /*flag*/) const override {
    if (*event == nullptr) *event = streams().make_event();
    Event* const at = static_cast<Event*>(*event);
    streams().tell(number_of(stream), [at, number = ++at->recorded] {
      at->reached = std::max(at->reached, number);
      return true;
    });
  }
  void block(void* event, const c10::Stream& stream) const override {
    if (event == nullptr) return;
    const Event* const at = static_cast<Event*>(event);
    streams().tell(number_of(stream), [at, number = at->recorded] { return at->reached >= number; });
  }
  void destroyEvent(void* /*event*/, c10::DeviceIndex /*device*/) const noexcept override {}
};

C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);

// Gives memory that was given back to the next who asks for as much, as caching allocators do: whoever frees it must
// have had the stream wait for all that uses it.
class Allocator : public c10::DeviceAllocator {
 public:
  c10::DataPtr allocate(std::size_t size) override {
    auto free = free_.find(size);
    if (free == free_.end()) {
      void* const fresh = all_.emplace_back(std::make_unique<std::byte[]>(size)).get();
      sizes_[fresh] = size;
      free = free_.emplace(size, fresh);
    }
    void* const memory = free->second;
    free_.erase(free);
    allocated_ += static_cast<std::int64_t>(size);
    return {memory, memory, &give_back, kDevice};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &give_back; }
  void copy_data(void* to, const void* from, std::size_t count) const override { std::memcpy(to, from, count); }

  bool initialized() override { return true; }
  void emptyCache(c10::MempoolId_t /*pool*/) override {}
  void recordStream(const c10::DataPtr& /*memory*/, c10::Stream /*stream*/) override {
    throw std::logic_error("this device's memory does not note streams");
  }
  c10::CachingDeviceAllocator::DeviceStats getDeviceStats(c10::DeviceIndex /*device*/) override {
    c10::CachingDeviceAllocator::DeviceStats stats;
    stats.allocated_bytes[0].current = allocated_;
    return stats;
  }
  void resetAccumulatedStats(c10::DeviceIndex /*device*/) override {}
  void resetPeakStats(c10::DeviceIndex /*device*/) override {}

  std::int64_t allocated() const { return allocated_; }

 private:
  static void give_back(void* memory);

  std::vector<std::unique_ptr<std::byte[]>> all_;
  std::map<void*, std::size_t> sizes_;
  std::multimap<std::size_t, void*> free_;
  std::int64_t allocated_ = 0;
};

Allocator& allocator() {
  static Allocator one;
  return one;
}

void Allocator::give_back(void* memory) {
  if (memory == nullptr) return;
  Allocator& self = allocator();
  const std::size_t size = self.sizes_.at(memory);
  self.allocated_ -= static_cast<std::int64_t>(size);
  self.free_.emplace(size, memory);
}

struct Hooks : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex /*device*/) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return 1; }
  c10::Allocator* getPinnedMemoryAllocator() const override { return c10::GetAllocator(c10::DeviceType::CPU); }
};

at::Tensor empty(at::IntArrayRef sizes, std::optional<at::ScalarType> type, std::optional<at::Layout> /*layout*/,
                 std::optional<at::Device> /*device*/, std::optional<bool> /*pinned*/,
                 std::optional<at::MemoryFormat> /*format*/) {
  return at::detail::empty_generic(sizes, &allocator(), c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                   type.value_or(at::kFloat), std::nullopt);
}

at::Tensor empty_strided(at::IntArrayRef sizes, at::IntArrayRef strides, std::optional<at::ScalarType> type,
                         std::optional<at::Layout> /*layout*/, std::optional<at::Device> /*device*/,
                         std::optional<bool> /*pinned*/) {
  return at::detail::empty_strided_generic(
      sizes, strides, &allocator(), c10::DispatchKeySet(c10::DispatchKey::PrivateUse1), type.value_or(at::kFloat));
}

at::Tensor& copy(at::Tensor& self, const at::Tensor& from, bool /*non_blocking*/) {
  enqueue([to = self.mutable_data_ptr(), data = from.const_data_ptr(), size = self.nbytes()] {
    std::memcpy(to, data, size);
  });
  return self;
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, kernels) {
  kernels.impl("empty.memory_format", &empty);
  kernels.impl("empty_strided", &empty_strided);
  kernels.impl("copy_", &copy);
}

}  // namespace

c10::Device start(Order order) {
  static Hooks hooks;
  static const bool registered = [] {
    c10::register_privateuse1_backend("late");
    c10::SetAllocator(kType, &allocator());
    at::RegisterPrivateUse1HooksInterface(&hooks);
    return true;
  }();
  static_cast<void>(registered);
  streams().begin(order);
  return kDevice;
}

void enqueue(std::function<void()> work) {
  streams().tell(streams().current(), [work = std::move(work)] {
    work();
    return true;
  });
}

void finish() {
  streams().finish(Streams::kFirst);
  streams().finish(Streams::kPool);
}

std::int64_t allocated() { return allocator().allocated(); }

}  // namespace ufp4::late_device
