// What the targets share: a check that ends the process, a file in memory, and the promise about refusals.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>
#include <string_view>

#include "ufp4/error.h"

namespace ufp4::fuzz {

inline void check(bool condition) {
  if (!condition) std::abort();
}

using Bytes = std::span<const std::uint8_t>;

inline std::string_view text_of(Bytes bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

// A file without a disk, for readers that take a path. `ending` is that of the path.
class MemoryFile {
 public:
  explicit MemoryFile(const char* ending) {
    std::string folder = "/tmp/ufp4-fuzz-XXXXXX";
    check(::mkdtemp(folder.data()) != nullptr);
    descriptor_ = ::memfd_create("fuzz", 0);
    check(descriptor_ >= 0);
    path_ = folder + "/f" + ending;
    check(::symlink(("/proc/self/fd/" + std::to_string(descriptor_)).c_str(), path_.c_str()) == 0);
  }
  ~MemoryFile() {
    ::unlink(path_.c_str());
    ::rmdir(path_.substr(0, path_.rfind('/')).c_str());
    ::close(descriptor_);
  }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  // The path of a file that holds these bytes and nothing else.
  const std::string& with(Bytes bytes) const {
    check(::ftruncate(descriptor_, 0) == 0);
    check(::pwrite(descriptor_, bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()));
    return path_;
  }

 private:
  int descriptor_ = -1;
  std::string path_;
};

// Bad input is an InputError with a short message, and nothing else.
template <class Read>
int read_or_refuse(const Read& read) {
  try {
    read();
  } catch (const InputError& error) {
    check(std::string_view(error.what()).size() < 4096);
  }
  return 0;
}

}  // namespace ufp4::fuzz
