// libFuzzer target of the safetensors reader: any bytes either open, with every byte of every tensor readable, or are
// refused with an InputError. The first byte chooses between the header's parser alone and a whole file.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>
#include <string_view>

#include <sys/mman.h>
#include <unistd.h>

#include "io/safetensors.h"
#include "ufp4/error.h"

namespace {

using ufp4::io::TensorInfo;

void check(bool condition) {
  if (!condition) std::abort();
}

void fuzz_header(std::string_view json, std::uint64_t data_size) {
  std::uint64_t position = 0;
  for (const TensorInfo& tensor : ufp4::io::parse_safetensors_header(json, data_size, "fuzz").tensors) {
    check(tensor.begin == position && tensor.end - tensor.begin == tensor.byte_size());
    position = tensor.end;
  }
  check(position == data_size);
}

void fuzz_file(std::span<const std::uint8_t> bytes) {
  static const int memory = ::memfd_create("safetensors", 0);
  check(memory >= 0 && ::ftruncate(memory, 0) == 0);
  check(::pwrite(memory, bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()));
  const ufp4::io::SafetensorsReader reader("/proc/self/fd/" + std::to_string(memory));
  unsigned sum = 0;
  for (const TensorInfo& tensor : reader.tensors()) {
    check(reader.find(tensor.name) == &tensor);
    for (const std::byte b : reader.bytes(tensor)) sum += static_cast<unsigned>(b);
  }
  check(sum <= 255 * bytes.size());  // true of any sum; that the bytes were read is what matters
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  try {
    if (data[0] % 2 == 0) {
      fuzz_header({reinterpret_cast<const char*>(data) + 2, size - 2}, data[1]);
    } else {
      fuzz_file({data + 1, size - 1});
    }
  } catch (const ufp4::InputError& error) {
    check(std::string_view(error.what()).size() < 4096);
  }
  return 0;
}
