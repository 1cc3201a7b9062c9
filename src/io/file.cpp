#include "io/file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <system_error>
#include <utility>

#include "ufp4/error.h"

namespace ufp4::io {
namespace {

std::string reason(int error) { return std::generic_category().message(error); }

constexpr std::string_view kTemporaryPrefix = ".ufp4-";
constexpr std::string_view kTemporarySuffix = ".tmp";

// In the same folder, for rename() does not cross file systems; short, for names have a limit; drawn at random, for
// process numbers come again.
std::filesystem::path temporary_beside(const std::filesystem::path& target) {
  std::uint64_t number = 0;
  if (::getrandom(&number, sizeof number, 0) != sizeof number) throw RunError("the system gives no random numbers");
  std::array<char, 17> digits{};
  std::snprintf(digits.data(), digits.size(), "%016llx", static_cast<unsigned long long>(number));
  return target.parent_path() / (std::string(kTemporaryPrefix) + digits.data() + std::string(kTemporarySuffix));
}

}  // namespace

bool path_is_wrong(const std::error_code& error) {
  constexpr std::array kWrong{std::errc::no_such_file_or_directory,
                              std::errc::not_a_directory,
                              std::errc::permission_denied,
                              std::errc::operation_not_permitted,
                              std::errc::is_a_directory,
                              std::errc::file_exists,
                              std::errc::filename_too_long,
                              std::errc::too_many_symbolic_link_levels,
                              std::errc::read_only_file_system};
  return std::any_of(kWrong.begin(), kWrong.end(), [&](std::errc wrong) { return error == wrong; });
}

void throw_file_error(const char* action, const std::filesystem::path& path, const std::error_code& error) {
  const std::string message = std::string("cannot ") + action + " '" + path.string() + "': " + error.message();
  if (path_is_wrong(error)) throw InputError(message);
  throw RunError(message);
}

void throw_file_error(const std::filesystem::filesystem_error& error) {
  throw_file_error("use", error.path1(), error.code());
}

bool exists_at(const std::filesystem::path& path) {
  std::error_code error;
  const auto status = std::filesystem::symlink_status(path, error);
  if (status.type() == std::filesystem::file_type::not_found) return false;
  if (error) throw_file_error("use", path, error);
  return true;
}

void check_type(const std::filesystem::path& path, std::filesystem::file_type type, const char* expected) {
  using std::filesystem::file_type;
  if (!exists_at(path)) return;
  const file_type found = std::filesystem::symlink_status(path).type();
  if (found == type) return;
  const char* const what = found == file_type::symlink     ? "a symbolic link"
                           : found == file_type::directory ? "a folder"
                           : found == file_type::regular   ? "a file"
                                                           : "no regular file";
  throw InputError(path.string() + " is " + what + ", expected " + expected +
                   " or nothing; move it away, or choose another folder");
}

void sync_folder(const std::filesystem::path& folder) {
  const int descriptor = ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return;  // a folder may be writable and not readable
  const int result = ::fsync(descriptor);
  const int error = errno;
  ::close(descriptor);
  if (result != 0 && error != EINVAL) {  // EINVAL: the file system has no such thing
    throw_file_error("make durable", folder, std::error_code(error, std::generic_category()));
  }
}

std::vector<std::filesystem::path> make_folder(const std::filesystem::path& folder) {
  if (folder.empty()) throw InputError("the name of the folder is empty, expected one");
  std::error_code error;
  std::filesystem::path part;
  std::vector<std::filesystem::path> made;
  for (const std::filesystem::path& name : folder) {
    part /= name;
    if (std::filesystem::is_directory(part, error)) continue;
    if (std::filesystem::create_directory(part, error)) {
      made.push_back(part);
      sync_folder(part.parent_path());
    }
    if (error) throw_file_error("make the folder", part, error);
  }
  return made;
}

MappedFile::MappedFile(std::filesystem::path path) : path_(std::move(path)) {
  const auto refuse = [this](const std::string& why) {
    if (descriptor_ >= 0) ::close(descriptor_);
    throw InputError("cannot read '" + path_.string() + "': " + why);
  };
  // Without O_NONBLOCK a pipe with no writer would hang here.
  descriptor_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor_ < 0) refuse(reason(errno));
  struct stat status {};
  if (::fstat(descriptor_, &status) != 0) refuse(reason(errno));
  if (S_ISDIR(status.st_mode)) refuse("it is a folder, not a file");
  if (!S_ISREG(status.st_mode)) refuse("it is not a regular file");
  const auto size = static_cast<std::size_t>(status.st_size);
  if (size == 0) return;
  void* map = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, descriptor_, 0);
  if (map == MAP_FAILED) refuse(reason(errno));
  bytes_ = {static_cast<const std::byte*>(map), size};
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
  if (descriptor_ >= 0) ::close(descriptor_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      bytes_(std::exchange(other.bytes_, {})) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(descriptor_, other.descriptor_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

void MappedFile::forget(std::span<const std::byte> part) const {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const auto offset = static_cast<std::size_t>(part.data() - bytes_.data());
  const std::size_t begin = (offset + page - 1) / page * page;  // the map begins with a page
  const std::size_t end = (offset + part.size()) / page * page;
  if (begin < end) ::madvise(const_cast<std::byte*>(bytes_.data() + begin), end - begin, MADV_DONTNEED);
}

void MappedFile::check_unchanged() const {
  struct stat status {};
  if (::fstat(descriptor_, &status) != 0) {
    throw RunError("cannot read '" + path_.string() + "': " + reason(errno));
  }
  if (static_cast<std::size_t>(status.st_size) != bytes_.size()) {
    throw RunError("'" + path_.string() + "' changed while it was read: it had " + std::to_string(bytes_.size()) +
                   " bytes and now has " + std::to_string(status.st_size));
  }
}

AtomicFile::AtomicFile(std::filesystem::path target, Links links) : target_(std::move(target)) {
  std::error_code error;
  if (std::filesystem::is_symlink(target_, error)) {
    if (links == Links::kRefuse) {
      throw InputError("cannot write '" + target_.string() + "': it is a symbolic link, expected a file or nothing");
    }
    const auto real = std::filesystem::weakly_canonical(target_, error);
    if (!error) target_ = real;
  }
  const auto status = std::filesystem::status(target_, error);
  if (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status)) {
    throw InputError("cannot write '" + target_.string() + "': it exists and is " +
                     (std::filesystem::is_directory(status) ? "a folder" : "no regular file"));
  }
  if (!target_.has_filename()) throw InputError("cannot write '" + target_.string() + "': it names no file");

  do {
    temporary_ = temporary_beside(target_);
    descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  } while (descriptor_ < 0 && errno == EEXIST);
  if (descriptor_ < 0) fail("write", errno);
  // Tells remove_left_temporaries() that the file is being written. Not all file systems have locks.
  ::flock(descriptor_, LOCK_EX | LOCK_NB);
}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) {
    ::close(descriptor_);
    ::unlink(temporary_.c_str());
  }
}

void AtomicFile::fail(const char* action, int error) const {
  throw_file_error(action, target_, std::error_code(error, std::generic_category()));
}

void AtomicFile::reserve(std::uint64_t size) {
  if (::ftruncate(descriptor_, static_cast<off_t>(size)) != 0) fail("write", errno);
  // Not posix_fallocate: where the file system cannot do it, that one writes every block.
  if (size > 0 && ::fallocate(descriptor_, 0, 0, static_cast<off_t>(size)) != 0 && errno != EOPNOTSUPP &&
      errno != ENOSYS && errno != EINTR) {
    fail("write", errno);
  }
}

void AtomicFile::write_at(std::uint64_t offset, std::span<const std::byte> bytes) {
  constexpr std::size_t kMostAtOnce = std::size_t{1} << 30;  // Linux writes 2 GiB at most
  while (!bytes.empty()) {
    const std::size_t wanted = std::min(bytes.size(), kMostAtOnce);
    const ssize_t written = ::pwrite(descriptor_, bytes.data(), wanted, static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail("write", errno);
    if (written == 0) fail("write", EIO);
    offset += static_cast<std::uint64_t>(written);
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
}

void AtomicFile::commit() {
  if (::fsync(descriptor_) != 0) fail("write", errno);
  if (::rename(temporary_.c_str(), target_.c_str()) != 0) fail("replace", errno);
  ::close(std::exchange(descriptor_, -1));
  sync_folder(target_.parent_path());
}

void atomic_write_file(const std::filesystem::path& path, std::span<const std::byte> bytes, Links links) {
  AtomicFile file(path, links);
  file.reserve(bytes.size());
  file.write_at(0, bytes);
  file.commit();
}

void atomic_write_file(const std::filesystem::path& path, std::string_view text, Links links) {
  atomic_write_file(path, std::as_bytes(std::span(text)), links);
}

bool is_temporary_name(std::string_view name) {
  return name.starts_with(kTemporaryPrefix) && name.ends_with(kTemporarySuffix);
}

void remove_left_temporaries(const std::filesystem::path& folder) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    if (!is_temporary_name(entry.path().filename().string())) continue;
    const int descriptor = ::open(entry.path().c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (descriptor < 0) continue;
    if (::flock(descriptor, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) ::unlink(entry.path().c_str());
    ::close(descriptor);
  }
}

std::string read_text_file(const std::filesystem::path& path, std::uint64_t max_bytes) {
  const MappedFile file(path);
  if (file.bytes().size() > max_bytes) {
    throw InputError("cannot read '" + path.string() + "': it has " + std::to_string(file.bytes().size()) +
                     " bytes, more than the " + std::to_string(max_bytes) + " that a text may have here");
  }
  std::string text(file.text());
  if (const std::size_t at = find_invalid_utf8(text); at != std::string::npos) {
    const auto line = 1 + std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(at), '\n');
    throw InputError("'" + path.string() + "' is no UTF-8 text: line " + std::to_string(line) + ", byte offset " +
                     std::to_string(at));
  }
  return text;
}

std::size_t find_invalid_utf8(std::string_view text) {
  const auto byte = [&](std::size_t i) -> unsigned {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0;
  };
  const auto within = [&](std::size_t i, unsigned low, unsigned high) { return byte(i) >= low && byte(i) <= high; };
  std::size_t i = 0;
  while (i < text.size()) {
    const unsigned lead = byte(i);
    std::size_t length = 0;
    // The second byte's range shuts out overlong forms, surrogates and what lies beyond U+10FFFF.
    if (lead < 0x80) {
      length = 1;
    } else if (lead >= 0xC2 && lead <= 0xDF) {
      length = within(i + 1, 0x80, 0xBF) ? 2 : 0;
    } else if (lead >= 0xE0 && lead <= 0xEF) {
      length = within(i + 1, lead == 0xE0 ? 0xA0 : 0x80, lead == 0xED ? 0x9F : 0xBF) ? 3 : 0;
    } else if (lead >= 0xF0 && lead <= 0xF4) {
      length = within(i + 1, lead == 0xF0 ? 0x90 : 0x80, lead == 0xF4 ? 0x8F : 0xBF) ? 4 : 0;
    }
    for (std::size_t k = 2; k < length; ++k) {
      if (!within(i + k, 0x80, 0xBF)) length = 0;
    }
    if (length == 0) return i;
    i += length;
  }
  return std::string_view::npos;
}

}  // namespace ufp4::io
