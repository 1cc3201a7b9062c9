// Bytes that are appended once and then read at random: in memory up to a limit, beyond it in an unlinked temporary
// file, and mapped in both cases, so that readers see one span.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace ufp4::data {

class ByteStore {
 public:
  explicit ByteStore(std::int64_t memory_limit) : memory_limit_(memory_limit) {}
  ~ByteStore();
  ByteStore(const ByteStore&) = delete;
  ByteStore& operator=(const ByteStore&) = delete;

  // Throws RunError if the space runs out.
  void append(std::string_view bytes);
  std::int64_t size() const { return size_; }
  bool on_disk() const { return on_disk_; }

  // Ends the appending and maps the bytes.
  std::span<const std::byte> finish();

 private:
  void open_memory();
  void move_to_disk();

  std::int64_t memory_limit_;
  std::int64_t size_ = 0;
  int descriptor_ = -1;
  bool on_disk_ = false;
  void* map_ = nullptr;
};

}  // namespace ufp4::data
