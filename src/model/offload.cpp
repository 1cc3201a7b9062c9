#include "model/offload.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <limits>
#include <string>
#include <utility>

#include "ufp4/error.h"

namespace ufp4 {
namespace {

constexpr std::int64_t kLayersBehind = 2;  // at least so many layers later a copy is waited for

c10::Stream current_stream(const at::Device& device) {
  return c10::impl::VirtualGuardImpl(device.type()).getStream(device);
}

// Page-locked, so that a GPU copies beside its other work.
at::Tensor host_memory_like(const at::Tensor& tensor) try {
  return at::empty(tensor.sizes(), tensor.options().device(at::kCPU).pinned_memory(!tensor.is_cpu()));
} catch (const c10::Error& error) {
  const std::string message = error.what_without_backtrace();
  throw RunError("the host has no " + std::to_string(tensor.nbytes()) +
                 " bytes of page-locked memory for an activation (" + message.substr(0, message.find('\n')) +
                 "): lower the number of layers whose activations wait there (train.offload_layers)");
}

}  // namespace

struct Offload::Place {
  at::Tensor host;                   // stays from one use to the next
  at::Tensor device;                 // while the copy from or to it may be under way; else undefined
  std::optional<c10::Event> copied;  // on a GPU
};

namespace {

// Whether a tensor waits there, or is on its way: its layer holds the place too.
bool taken(const std::shared_ptr<Offload::Place>& place) { return place.use_count() > 1; }

}  // namespace

Offload::Offload(const at::Device& device, std::int64_t layers, std::int64_t count) : device_(device), layers_(layers) {
  if (count >= layers) {
    throw InputError("activations of " + std::to_string(count) + " of " + std::to_string(layers) +
                     " layers are to be offloaded, expected at most " + std::to_string(layers - 1));
  }
  if (!device.is_cpu()) {
    side_ = c10::impl::VirtualGuardImpl(device.type()).getStreamFromGlobalPool(device);
    device_ = side_->device();
  }
  for (std::int64_t i = 0; i < count; ++i) {
    places_.push_back(std::make_shared<Place>());
    if (side_) places_.back()->copied.emplace(device.type());
  }
}

// Memory that a copy still uses must not be given to other work. If the device has failed there is no telling whether
// it does; then the host's, whose return would ask the device, is never given back.
Offload::~Offload() {
  try {
    if (side_) side_->synchronize();
  } catch (const c10::Error&) {
    for (const auto& place : places_) place->host.unsafeReleaseTensorImpl();
  }
}

// Runs `how` after all that the calling thread's stream was told so far, beside what follows.
template <class Copy>
void Offload::copy(Place& place, Copy how) {
  if (!side_) return how();
  c10::Event begin(device_.type());
  begin.record(current_stream(device_));
  begin.block(*side_);
  const c10::StreamGuard guard(*side_);
  how();
  place.copied->record(*side_);
}

const std::shared_ptr<Offload::Place>& Offload::place_of(std::int64_t layer) const {
  return places_[static_cast<std::size_t>(layer)];
}

void Offload::wait_for_copy(Place& place) {
  if (place.device.defined() && place.copied) place.copied->block(current_stream(device_));
}

// Gives back the device's memory of the layers before `end`.
void Offload::release(std::int64_t end) {
  for (std::int64_t i = 0; i < end; ++i) {
    wait_for_copy(*place_of(i));
    place_of(i)->device.reset();
  }
}

std::shared_ptr<Offload::Place> Offload::put(std::int64_t layer, const at::Tensor& tensor) {
  const auto count = static_cast<std::int64_t>(places_.size());
  std::shared_ptr<Place> place;
  if (layer < count && !taken(place_of(layer))) {
    place = place_of(layer);
    wait_for_copy(*place);  // of a forward pass that was given up
    if (!place->host.defined() || place->host.sizes() != tensor.sizes() ||
        place->host.scalar_type() != tensor.scalar_type()) {
      place->host = host_memory_like(tensor);
    }
    copy(*place, [&] { place->host.copy_(tensor, /*non_blocking=*/true); });
    place->device = tensor;
  }
  // As late as leaves no more there at the end than what the last layers make: copies have the most time.
  release(layer - std::max(kLayersBehind, layers_ - count));
  return place;
}

void Offload::begin_return(Place& place) {
  place.device = at::empty_like(place.host, place.host.options().device(device_).pinned_memory(false));
  copy(place, [&] { place.device.copy_(place.host, /*non_blocking=*/true); });
}

double Offload::allocated() const {
  if (device_.is_cpu()) return std::numeric_limits<double>::infinity();
  const auto stats = c10::getDeviceAllocator(device_.type())->getDeviceStats(device_.index());
  return static_cast<double>(stats.allocated_bytes[0].current);
}

at::Tensor Offload::get(std::int64_t layer, const std::shared_ptr<Place>& place) {
  const auto count = static_cast<std::int64_t>(places_.size());
  at::Tensor tensor;
  if (layer == layers_ - 1) {
    release(count);
    allowed_ = allocated();
  }
  if (place != nullptr) {
    if (!place->device.defined()) begin_return(*place);
    wait_for_copy(*place);
    tensor = std::exchange(place->device, at::Tensor());
  }
  for (std::int64_t i = std::min(layer, count) - 1; i >= 0; --i) {
    Place& next = *place_of(i);
    if (!taken(place_of(i)) || next.device.defined()) continue;
    if (allocated() + static_cast<double>(next.host.nbytes()) > allowed_) break;
    begin_return(next);
  }
  return tensor;
}

}  // namespace ufp4
