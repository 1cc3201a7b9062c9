#include "io/foreign_file.h"

namespace ufp4::io {

std::string_view foreign_content(std::string_view bytes) {
  constexpr std::size_t kLargestPointer = 1024;  // by the specification of Git LFS
  if (bytes.size() < kLargestPointer && bytes.starts_with("version https://git-lfs.github.com/spec/")) {
    return "a Git LFS pointer, which stands for a file that was not fetched; 'git lfs pull' fetches it";
  }
  if (bytes.starts_with(std::string_view("\0\5\x16\7", 4))) {
    return "a companion file of macOS (AppleDouble), which holds attributes of another file and none of its content";
  }
  return {};
}

bool is_macos_companion(std::string_view file_name) { return file_name.starts_with("._"); }

}  // namespace ufp4::io
