#include "io/held_folder.h"

#include <gtest/gtest.h>
#include <signal.h>  // NOLINT(modernize-deprecated-headers): kill is of POSIX
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <optional>

#include "io/file.h"
#include "io/temporary_folder.h"
#include "message_of.h"
#include "ufp4/error.h"

namespace ufp4::io {
namespace {

namespace fs = std::filesystem;

// A process that holds a folder until it is killed.
class Holder {
 public:
  explicit Holder(const fs::path& folder) {
    std::array<int, 2> ready{};
    if (::pipe(ready.data()) != 0) ADD_FAILURE() << "no pipe";
    process_ = ::fork();
    if (process_ == 0) {
      const HeldFolder held(folder);
      const char byte = held.locked() ? 1 : 0;
      if (::write(ready[1], &byte, 1) != 1) ::_exit(1);
      for (;;) ::pause();
    }
    char byte = 0;
    EXPECT_EQ(::read(ready[0], &byte, 1), 1);
    EXPECT_EQ(byte, 1);
    ::close(ready[0]);
    ::close(ready[1]);
  }
  ~Holder() { end(); }
  Holder(const Holder&) = delete;
  Holder& operator=(const Holder&) = delete;

  void end() {
    if (process_ <= 0) return;
    ::kill(process_, SIGKILL);
    ::waitpid(process_, nullptr, 0);
    process_ = -1;
  }
  pid_t process() const { return process_; }

 private:
  pid_t process_ = -1;
};

TEST(HeldFolder, TheSecondProcessIsToldOfTheFirst) {
  const TemporaryFolder folder;
  Holder first(folder.path());
  const std::string message = message_of<InputError>([&] { const HeldFolder second(folder.path()); });
  std::array<char, 256> host{};
  ASSERT_EQ(::gethostname(host.data(), host.size() - 1), 0);
  EXPECT_NE(message.find("process " + std::to_string(first.process()) + " on " + host.data() + " since 2"),
            std::string::npos)
      << message;
  EXPECT_NE(message.find(folder.path().string()), std::string::npos) << message;
}

TEST(HeldFolder, TheSystemGivesItBackWhenTheProcessIsKilled) {
  const TemporaryFolder folder;
  Holder first(folder.path());
  first.end();
  EXPECT_TRUE(fs::exists(folder / kLockName));  // nobody could remove it
  EXPECT_TRUE(HeldFolder(folder.path()).locked());
}

TEST(HeldFolder, LeavesNothing) {
  const TemporaryFolder folder;
  { const HeldFolder held(folder / "a" / "b"); }
  EXPECT_EQ(folder.entries(), 0);
  {
    const HeldFolder held(folder / "a" / "b");
    atomic_write_file(folder / "a" / "b" / "file", std::string_view("kept"));
  }
  EXPECT_EQ(read_text_file(folder / "a" / "b" / "file"), "kept");
  EXPECT_FALSE(fs::exists(folder / "a" / "b" / kLockName));
}

TEST(HeldFolder, OnlyOneOfTwoHereToo) {
  const TemporaryFolder folder;
  std::optional<HeldFolder> first(folder.path());
  EXPECT_THROW(const HeldFolder second(folder.path()), InputError);
  first.reset();
  EXPECT_TRUE(HeldFolder(folder.path()).locked());
}

TEST(HeldFolder, WritesThroughNoLink) {
  const TemporaryFolder folder;
  const auto victim = folder.write("victim", "mine");
  fs::create_directory(folder / "run");
  fs::create_symlink(victim, folder / "run" / kLockName);
  EXPECT_THROW(const HeldFolder held(folder / "run"), InputError);
  EXPECT_EQ(read_text_file(victim), "mine");
}

}  // namespace
}  // namespace ufp4::io
