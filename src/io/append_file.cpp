#include "io/append_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include "io/file.h"
#include "ufp4/error.h"

namespace ufp4::io {
namespace {

std::error_code last_error() { return {errno, std::generic_category()}; }

}  // namespace

AppendFile::AppendFile(std::filesystem::path path) : path_(std::move(path)) {
  constexpr int kFlags = O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
  descriptor_ = ::open(path_.c_str(), kFlags, 0666);
  if (descriptor_ < 0 && errno == ELOOP) {
    throw InputError("cannot write '" + path_.string() + "': it is a symbolic link, expected a file or nothing");
  }
  const bool pipe = descriptor_ < 0 && errno == ENXIO;  // without a reader
  if (descriptor_ < 0 && !pipe) throw_file_error("write", path_, last_error());
  struct stat status {};
  if (pipe || ::fstat(descriptor_, &status) != 0 || !S_ISREG(status.st_mode)) {
    if (!pipe) ::close(descriptor_);
    throw InputError("cannot write '" + path_.string() + "': it exists and is no regular file");
  }
}

AppendFile::~AppendFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

AppendFile::AppendFile(AppendFile&& other) noexcept
    : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)) {}

AppendFile& AppendFile::operator=(AppendFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

void AppendFile::write(std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(descriptor_, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) throw RunError("cannot write '" + path_.string() + "': " + last_error().message());
    text.remove_prefix(static_cast<std::size_t>(written));
  }
}

void AppendFile::sync() {
  if (::fdatasync(descriptor_) != 0) {
    throw RunError("cannot make '" + path_.string() + "' durable: " + last_error().message());
  }
}

}  // namespace ufp4::io
