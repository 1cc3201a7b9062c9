#include "io/append_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <utility>

#include "io/file.h"
#include "io/temporary_folder.h"
#include "message_of.h"
#include "ufp4/error.h"

namespace ufp4::io {
namespace {

TEST(AppendFile, AddsAtTheEnd) {
  const TemporaryFolder folder;
  const auto path = folder.write("f", "one\n");
  AppendFile file(path);
  file.write("two\n");
  AppendFile moved(std::move(file));
  moved.write("three\n");
  moved.sync();
  EXPECT_EQ(read_text_file(path), "one\ntwo\nthree\n");
}

TEST(AppendFile, WritesThroughNoLink) {
  const TemporaryFolder folder;
  const auto victim = folder.write("victim", "mine");
  for (const auto& target : {victim, folder / "nothing"}) {
    const auto link = folder / ("link-to-" + target.filename().string());
    std::filesystem::create_symlink(target, link);
    EXPECT_EQ(message_of<InputError>([&] { AppendFile file(link); }),
              "cannot write '" + link.string() + "': it is a symbolic link, expected a file or nothing");
  }
  EXPECT_EQ(read_text_file(victim), "mine");
  EXPECT_FALSE(std::filesystem::exists(folder / "nothing"));
}

TEST(AppendFile, RefusesWhatIsNoFile) {
  const TemporaryFolder folder;
  const auto pipe = folder / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_NE(message_of<InputError>([&] { AppendFile file(pipe); }).find("pipe"), std::string::npos);
  EXPECT_NE(message_of<InputError>([&] { AppendFile file(folder.path()); }).find("Is a directory"), std::string::npos);
}

}  // namespace
}  // namespace ufp4::io
