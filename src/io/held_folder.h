// A folder to which this process alone writes.
#pragma once

#include <filesystem>
#include <string_view>
#include <vector>

namespace ufp4::io {

// The name of the file whose lock tells who writes to a folder.
inline constexpr std::string_view kLockName = ".lock";

// Makes the folder if it is missing, and holds it. The system gives the lock back when the process ends, however it
// ends. At the end, folders that were made and are still empty are removed again.
class HeldFolder {
 public:
  // Throws InputError if another process holds the folder: its number, its host, and since when.
  explicit HeldFolder(const std::filesystem::path& folder);
  ~HeldFolder();
  HeldFolder(const HeldFolder&) = delete;
  HeldFolder& operator=(const HeldFolder&) = delete;

  // False where the file system has no locks: then nothing keeps two processes apart.
  bool locked() const { return descriptor_ >= 0; }

 private:
  void take(const std::filesystem::path& folder);

  std::vector<std::filesystem::path> made_;
  std::filesystem::path lock_;
  int descriptor_ = -1;
};

}  // namespace ufp4::io
