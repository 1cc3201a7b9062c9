// A file that grows at its end. It is never reached through a symbolic link.
#pragma once

#include <filesystem>
#include <string_view>

namespace ufp4::io {

class AppendFile {
 public:
  // Opens the file, or makes it. Throws InputError or RunError as AtomicFile does; a link is refused.
  explicit AppendFile(std::filesystem::path path);
  ~AppendFile();
  AppendFile(AppendFile&& other) noexcept;
  AppendFile& operator=(AppendFile&& other) noexcept;
  AppendFile(const AppendFile&) = delete;
  AppendFile& operator=(const AppendFile&) = delete;

  // Adds all of it, or throws RunError.
  void write(std::string_view text);
  // What was written survives a power cut.
  void sync();

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
};

}  // namespace ufp4::io
