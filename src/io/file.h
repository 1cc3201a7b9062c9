// Files: read-only maps, whole-file reads, and replacement that leaves either the old file or the new one, never half.
//
// Every message names the file and the system's reason. What the caller gave wrongly (a path that is missing, is a
// folder, may not be read) is an InputError; what failed underway (a full disk) is a RunError.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace ufp4::io {

// Whether the error says that the path itself is wrong (missing, not allowed, too long), rather than that something
// failed underway.
bool path_is_wrong(const std::error_code& error);

// "cannot ACTION 'PATH': REASON", an InputError where the path is wrong, else a RunError.
[[noreturn]] void throw_file_error(const char* action, const std::filesystem::path& path, const std::error_code& error);
// The same for what std::filesystem threw.
[[noreturn]] void throw_file_error(const std::filesystem::filesystem_error& error);

// Makes the folder and those above it that are missing, durably. Gives those that were made, the deepest last.
std::vector<std::filesystem::path> make_folder(const std::filesystem::path& folder);

// Whether there is something, be it a link to nothing. Throws as throw_file_error() where that cannot be told.
bool exists_at(const std::filesystem::path& path);

// Throws InputError if something is at `path` that is not of the type (symbolic links are not followed). `expected` is
// for the message: "a file of the run".
void check_type(const std::filesystem::path& path, std::filesystem::file_type type, const char* expected);

// What is done where a file to be written is a symbolic link.
enum class Links : std::uint8_t { kFollow, kRefuse };

// A whole regular file, mapped for reading. An empty file gives an empty span. Movable.
class MappedFile {
 public:
  explicit MappedFile(std::filesystem::path path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::span<const std::byte> bytes() const { return bytes_; }
  std::string_view text() const { return {reinterpret_cast<const char*>(bytes_.data()), bytes_.size()}; }

  // Throws RunError if the file has been cut or grown since it was opened: touching pages beyond its end would kill the
  // process. Call it before a long stretch of reading.
  void check_unchanged() const;

  // Gives back the memory of the whole pages inside `part` of bytes(): they are read again when they are touched. For
  // files larger than the memory.
  void forget(std::span<const std::byte> part) const;

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
  std::span<const std::byte> bytes_;
};

// A file that replaces `target` when commit() succeeds. Until then the bytes stand in a temporary file in the same
// folder, made under a name that nothing had; without commit() it is removed and the target stays as it was. A target
// that exists and is no regular file is refused.
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path target, Links links = Links::kFollow);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  const std::filesystem::path& target() const { return target_; }

  // Sets the size and takes the disk space now where the file system can, so that a full disk is found at the start.
  void reserve(std::uint64_t size);
  // Several threads may write different ranges.
  void write_at(std::uint64_t offset, std::span<const std::byte> bytes);
  // fsync, rename, fsync of the folder: afterwards the new file survives a power cut.
  void commit();

 private:
  [[noreturn]] void fail(const char* action, int error) const;

  std::filesystem::path target_;
  std::filesystem::path temporary_;
  int descriptor_ = -1;
};

// Replaces `path` by `bytes`, as AtomicFile does.
void atomic_write_file(const std::filesystem::path& path, std::span<const std::byte> bytes,
                       Links links = Links::kFollow);
void atomic_write_file(const std::filesystem::path& path, std::string_view text, Links links = Links::kFollow);

// Whether AtomicFile calls its temporary files so.
bool is_temporary_name(std::string_view name);

// Removes the temporary files that killed processes left in `folder`. Files that are being written stay.
void remove_left_temporaries(const std::filesystem::path& folder);

// Syncs the entries of a folder to the disk. Does nothing where the file system cannot.
void sync_folder(const std::filesystem::path& folder);

// The text of a file. Throws InputError if it is larger than `max_bytes` or not UTF-8 (with line and byte offset).
std::string read_text_file(const std::filesystem::path& path, std::uint64_t max_bytes = std::uint64_t{1} << 30);

// The offset of the first byte that does not belong to well-formed UTF-8 (Unicode 15, table 3-7); npos if there is
// none.
std::size_t find_invalid_utf8(std::string_view text);

}  // namespace ufp4::io
