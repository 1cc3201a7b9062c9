// What torch throws becomes one line, with what helps where memory has run out.
#include "train/torch_error.h"

#include <ATen/ops/empty.h>
#include <gtest/gtest.h>

#include "message_of.h"
#include "ufp4/error.h"

namespace ufp4 {
namespace {

template <class Work>
std::string plain(Work work) {
  return message_of<RunError>([&] {
    try {
      work();
    } catch (const c10::Error& error) {
      throw_plain(error, "less of it");
    }
  });
}

TEST(TorchError, OfTheDevicesMemoryKeepsTheNumbersAndSaysWhatHelps) {
  const std::string message = plain([] {
    TORCH_CHECK_WITH(OutOfMemoryError, false,
                     "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.11 GiB. "
                     "If reserved but unallocated memory is large try setting PYTORCH_ALLOC_CONF");
  });
  EXPECT_EQ(message,
            "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.11 GiB. What helps: less "
            "of it");
}

TEST(TorchError, OfTheHostsMemoryDoesToo) {
  const std::string message = plain([] { at::empty({std::int64_t{1} << 60}, at::kByte); });
  EXPECT_EQ(message.find("DefaultCPUAllocator: "), 0U) << message;
  EXPECT_NE(message.find("1152921504606846976 bytes"), std::string::npos) << message;
  EXPECT_NE(message.find(". What helps: less of it"), std::string::npos) << message;
  EXPECT_EQ(message.find('\n'), std::string::npos) << message;
}

TEST(TorchError, OfAnotherKindIsItsFirstLine) {
  EXPECT_EQ(plain([] { TORCH_CHECK(false, "this went wrong\nand here is where"); }), "torch: this went wrong");
}

}  // namespace
}  // namespace ufp4
