// Activations that wait in the memory of the host between the forward and the backward pass of their layer, copied
// there and back beside the work on a GPU.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Stream.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

namespace ufp4 {

// One tensor for each of the first layers, which wait the longest. Copies go through a stream of their own. A tensor's
// memory on the device is given back some layers later, that of the last one at the beginning of the backward pass. The
// way back begins ahead of the need, while the device holds no more than at that beginning. All this can be part of a
// recording (RecordedWork), whose runs must be of the same shapes. On a CPU, for tests, tensors are copied at once.
class Offload {
 public:
  struct Place;

  // For the first `count` of `layers` layers. Throws InputError if that is all of them: the backward pass begins with
  // the last.
  Offload(const at::Device& device, std::int64_t layers, std::int64_t count);
  ~Offload();
  Offload(const Offload&) = delete;
  Offload& operator=(const Offload&) = delete;

  // To be called by every layer in order when its forward pass has made the tensor. Returns the place where it waits,
  // to be held until get(), or null if it does not: of a later layer, or if that of an earlier forward pass still waits
  // there. Throws RunError if the host has no memory for it.
  std::shared_ptr<Place> put(std::int64_t layer, const at::Tensor& tensor);

  // To be called by every layer in order at the beginning of its backward pass, with what put() returned: the tensor,
  // undefined for null.
  at::Tensor get(std::int64_t layer, const std::shared_ptr<Place>& place);

 private:
  template <class Copy>
  void copy(Place& place, Copy how);
  void begin_return(Place& place);
  void wait_for_copy(Place& place);
  void release(std::int64_t end);
  const std::shared_ptr<Place>& place_of(std::int64_t layer) const;
  double allocated() const;

  at::Device device_;
  std::int64_t layers_;
  std::optional<c10::Stream> side_;  // on a GPU
  std::vector<std::shared_ptr<Place>> places_;
  double allowed_ = 0;  // bytes allocated at the beginning of the backward pass
};

}  // namespace ufp4
