// A device of torch in the memory of the host whose streams run late, and in any order that events between them allow:
// work that waits for too little computes with what is not there yet, or no longer. There is one in a process, and
// torch takes it for its accelerator.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <functional>

namespace ufp4::late_device {

// Which stream goes on where several can: any, or as long as there is something the first one or that from torch's
// pool.
enum class Order : std::uint8_t { kAny, kFirstFirst, kPoolFirst };

// Registers the device once. From here on work runs in this order.
c10::Device start(Order order);

// Tells the current stream to do this some time.
void enqueue(std::function<void()> work);

// Has all streams do all that they were told. Throws std::logic_error if one waits for what nobody was told.
void finish();

// Bytes of tensors that are there now.
std::int64_t allocated();

}  // namespace ufp4::late_device
