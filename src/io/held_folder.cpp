#include "io/held_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <ctime>
#include <nlohmann/json.hpp>
#include <string>
#include <system_error>
#include <utility>

#include "io/file.h"
#include "ufp4/error.h"

namespace ufp4::io {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

std::string host() {
  std::array<char, 256> name{};
  return ::gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "an unknown host";
}

std::string now() {
  const std::time_t time = std::time(nullptr);
  std::tm parts{};
  ::gmtime_r(&time, &parts);
  std::array<char, 32> text{};
  std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M:%S UTC", &parts);
  return text.data();
}

// What the holder wrote about itself; it may not have come to that yet.
std::string holder(int descriptor) {
  std::array<char, 1024> text{};
  const ssize_t size = ::pread(descriptor, text.data(), text.size(), 0);
  const Json json = Json::parse(text.data(), text.data() + (size > 0 ? size : 0), nullptr, false);
  if (!json.is_object() || !json.contains("pid") || !json["pid"].is_number_integer()) return "another process";
  const auto word = [&](const char* key) {
    return json.contains(key) && json[key].is_string() ? json[key].get<std::string>() : "unknown";
  };
  return "process " + std::to_string(json["pid"].get<std::int64_t>()) + " on " + word("host") + " since " +
         word("since");
}

// Whether `path` still names the file that is open: a holder that ends removes it.
bool is_named(int descriptor, const fs::path& path) {
  struct stat open {};
  struct stat named {};
  return ::fstat(descriptor, &open) == 0 && ::lstat(path.c_str(), &named) == 0 && open.st_ino == named.st_ino &&
         open.st_dev == named.st_dev;
}

void remove_empty(const std::vector<fs::path>& made) {
  // Up to the first that holds something.
  std::all_of(made.rbegin(), made.rend(), [](const fs::path& folder) { return ::rmdir(folder.c_str()) == 0; });
}

}  // namespace

HeldFolder::HeldFolder(const fs::path& folder) : made_(make_folder(folder)), lock_(folder / kLockName) {
  try {
    take(folder);
  } catch (...) {
    remove_empty(made_);
    throw;
  }
}

void HeldFolder::take(const fs::path& folder) {
  while (descriptor_ < 0) {
    const int descriptor = ::open(lock_.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0666);
    if (descriptor < 0) throw_file_error("write", lock_, std::error_code(errno, std::generic_category()));
    if (::flock(descriptor, LOCK_EX | LOCK_NB) == 0) {
      if (is_named(descriptor, lock_)) {
        descriptor_ = descriptor;
      } else {
        ::close(descriptor);
      }
      continue;
    }
    const int error = errno;
    const std::string who = holder(descriptor);
    ::close(descriptor);
    if (error == EINTR) continue;
    if (error != EWOULDBLOCK) {  // no locks here
      ::unlink(lock_.c_str());
      return;
    }
    throw InputError("'" + folder.string() + "' is being written by " + who +
                     ": wait for its end, or choose another folder");
  }
  const std::string text = Json{{"pid", ::getpid()}, {"host", host()}, {"since", now()}}.dump() + "\n";
  // On a full disk the lock holds without a word of who holds it.
  if (::ftruncate(descriptor_, 0) == 0) {
    [[maybe_unused]] const ssize_t written = ::pwrite(descriptor_, text.data(), text.size(), 0);
  }
}

HeldFolder::~HeldFolder() {
  if (descriptor_ >= 0) {
    ::unlink(lock_.c_str());
    ::close(descriptor_);
  }
  remove_empty(made_);
}

}  // namespace ufp4::io
