#include "data/byte_store.h"

#include <sys/mman.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>

#include "ufp4/error.h"

namespace ufp4::data {
namespace {

[[noreturn]] void fail(const std::string& what, int error) {
  throw RunError("decoded text: " + what + ": " + std::strerror(error));
}

}  // namespace

ByteStore::~ByteStore() {
  if (map_ != nullptr) munmap(map_, static_cast<std::size_t>(size_));
  if (descriptor_ >= 0) close(descriptor_);
}

void ByteStore::open_memory() {
  descriptor_ = memfd_create("ufp4-text", MFD_CLOEXEC);
  if (descriptor_ < 0) fail("no anonymous memory", errno);
}

void ByteStore::move_to_disk() {
  std::error_code error;
  const std::filesystem::path folder = std::filesystem::temp_directory_path(error);
  if (error) throw RunError("decoded text: no temporary folder: " + error.message());
  std::string name = (folder / "ufp4-text-XXXXXX").string();
  const int file = mkstemp(name.data());
  if (file < 0) fail("cannot create a temporary file in " + folder.string(), errno);
  unlink(name.c_str());  // gone with the last descriptor, however the program ends
  if (descriptor_ >= 0) {
    off_t done = 0;
    while (done < size_) {
      const ssize_t sent = sendfile(file, descriptor_, &done, static_cast<std::size_t>(size_ - done));
      if (sent <= 0 && errno != EINTR) {
        const int sent_error = errno;
        close(file);
        fail("cannot write to the temporary folder " + folder.string(), sent_error);
      }
    }
    close(descriptor_);
  }
  descriptor_ = file;
  on_disk_ = true;
}

void ByteStore::append(std::string_view bytes) {
  if (!on_disk_ && size_ + static_cast<std::int64_t>(bytes.size()) > memory_limit_) move_to_disk();
  if (descriptor_ < 0) open_memory();
  while (!bytes.empty()) {
    const ssize_t written = pwrite(descriptor_, bytes.data(), bytes.size(), size_);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) fail(on_disk_ ? "cannot write to the temporary folder" : "cannot take memory", errno);
    size_ += written;
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
}

std::span<const std::byte> ByteStore::finish() {
  if (size_ == 0) return {};
  void* map = mmap(nullptr, static_cast<std::size_t>(size_), PROT_READ, MAP_SHARED, descriptor_, 0);
  if (map == MAP_FAILED) fail("cannot map it", errno);
  map_ = map;
  return {static_cast<const std::byte*>(map), static_cast<std::size_t>(size_)};
}

}  // namespace ufp4::data
