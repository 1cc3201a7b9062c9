// libFuzzer target of the safetensors readers: any bytes either open, with every byte of every tensor readable, or are
// refused with an InputError. The first byte chooses between the header's parser alone, a whole file, and the index of
// a model in shards.
#include "io/safetensors.h"

#include <filesystem>
#include <fstream>

#include "io/safetensors_folder.h"
#include "target.h"

namespace ufp4::fuzz {
namespace {

void read_header(std::string_view json, std::uint64_t data_size) {
  std::uint64_t position = 0;
  for (const io::TensorInfo& tensor : io::parse_safetensors_header(json, data_size, "fuzz").tensors) {
    check(tensor.begin == position && tensor.end - tensor.begin == tensor.byte_size());
    position = tensor.end;
  }
  check(position == data_size);
}

void read_file(Bytes bytes) {
  static const MemoryFile file(".safetensors");
  const io::SafetensorsReader reader(file.with(bytes));
  unsigned sum = 0;
  for (const io::TensorInfo& tensor : reader.tensors()) {
    check(reader.find(tensor.name) == &tensor);
    for (const std::byte b : reader.bytes(tensor)) sum += static_cast<unsigned>(b);
  }
  check(sum <= 255 * bytes.size());  // true of any sum; that the bytes were read is what matters
}

// Gone when the process ends.
struct ShardFolder {
  ShardFolder() {
    std::string name = "/tmp/ufp4-fuzz-XXXXXX";
    check(::mkdtemp(name.data()) != nullptr);
    path = name;
    std::ofstream(path / "a.safetensors");
  }
  ~ShardFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
  std::filesystem::path path;
};

void read_index(std::string_view json) {
  static const ShardFolder folder;
  std::ofstream(folder.path / "m.safetensors.index.json", std::ios::binary) << json;
  check(io::list_safetensors(folder.path).files.size() == 1);
}

}  // namespace
}  // namespace ufp4::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace ufp4::fuzz;
  if (size < 2) return 0;
  const Bytes bytes(data, size);
  return read_or_refuse([&] {
    switch (data[0] % 3) {
      case 0: return read_header(text_of(bytes.subspan(2)), data[1]);
      case 1: return read_file(bytes.subspan(1));
      default: return read_index(text_of(bytes.subspan(1)));
    }
  });
}
