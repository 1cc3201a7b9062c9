#include "io/file.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <utility>
#include <vector>

#include "io/temporary_folder.h"
#include "message_of.h"
#include "ufp4/error.h"

namespace ufp4::io {
namespace {

using ::testing::Test;

class FileTest : public Test {
 protected:
  std::string map_error(const std::filesystem::path& path) {
    return message_of<InputError>([&] { MappedFile file(path); });
  }
  std::string write_error(const std::filesystem::path& path) {
    return message_of<InputError>([&] { atomic_write_file(path, "new"); });
  }

  TemporaryFolder folder_;
};

TEST_F(FileTest, MapsTheBytes) {
  const MappedFile file(folder_.write("f", "hello"));
  EXPECT_EQ(file.text(), "hello");
  file.check_unchanged();
}

TEST_F(FileTest, WhatIsForgottenIsReadAgain) {
  std::string text(100'000, 'x');
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>('a' + i % 26);
  const MappedFile file(folder_.write("f", text));
  EXPECT_EQ(file.text(), text);
  for (const auto& [offset, size] : std::initializer_list<std::pair<std::size_t, std::size_t>>{
           {0, 100'000}, {1, 8192}, {5000, 100}, {99'999, 1}, {4096, 4096}, {7, 0}}) {
    file.forget(file.bytes().subspan(offset, size));
    EXPECT_TRUE(file.text() == text) << offset;
  }
}

TEST_F(FileTest, EmptyFileGivesAnEmptySpan) {
  const MappedFile file(folder_.write("f", ""));
  EXPECT_TRUE(file.bytes().empty());
}

TEST_F(FileTest, MovesLeaveOneOwner) {
  MappedFile a(folder_.write("a", "first"));
  MappedFile b(folder_.write("b", "second"));
  a = std::move(b);
  EXPECT_EQ(a.text(), "second");
  const MappedFile c(std::move(a));
  EXPECT_EQ(c.text(), "second");
}

TEST_F(FileTest, RefusesWhatIsNoReadableFile) {
  const std::string missing = (folder_ / "missing").string();
  EXPECT_EQ(map_error(missing), "cannot read '" + missing + "': No such file or directory");
  EXPECT_EQ(map_error(folder_.path()), "cannot read '" + folder_.path().string() + "': it is a folder, not a file");
  EXPECT_EQ(map_error("/dev/null"), "cannot read '/dev/null': it is not a regular file");
  const std::string pipe = (folder_ / "pipe").string();
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_EQ(map_error(pipe), "cannot read '" + pipe + "': it is not a regular file");
}

TEST_F(FileTest, SaysWhenTheSizeChanged) {
  const auto path = folder_.write("f", "hello");
  const MappedFile file(path);
  std::filesystem::resize_file(path, 3);
  EXPECT_EQ(message_of<RunError>([&] { file.check_unchanged(); }),
            "'" + path.string() + "' changed while it was read: it had 5 bytes and now has 3");
}

TEST_F(FileTest, ReplacesAFile) {
  const auto path = folder_.write("f", "old and longer");
  atomic_write_file(path, "new");
  EXPECT_EQ(read_text_file(path), "new");
  EXPECT_EQ(folder_.entries(), 1);
}

TEST_F(FileTest, FollowsALink) {
  const auto real = folder_.write("real", "old");
  std::filesystem::create_symlink(real, folder_ / "link");
  atomic_write_file(folder_ / "link", "new");
  EXPECT_TRUE(std::filesystem::is_symlink(folder_ / "link"));
  EXPECT_EQ(read_text_file(real), "new");
}

TEST_F(FileTest, TakesARelativeName) {
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(folder_.path());
  atomic_write_file("f", "text");
  std::filesystem::current_path(before);
  EXPECT_EQ(read_text_file(folder_ / "f"), "text");
}

TEST_F(FileTest, WithoutCommitTheOldFileStays) {
  const auto path = folder_.write("f", "old");
  {
    AtomicFile file(path);
    file.write_at(0, std::as_bytes(std::span("half", 4)));
    EXPECT_EQ(folder_.entries(), 2);
  }
  EXPECT_EQ(read_text_file(path), "old");
  EXPECT_EQ(folder_.entries(), 1);
}

TEST_F(FileTest, RefusesTargetsThatCannotBe) {
  EXPECT_EQ(write_error(folder_.path()), "cannot write '" + folder_.path().string() + "': it exists and is a folder");
  EXPECT_EQ(write_error("/dev/null"), "cannot write '/dev/null': it exists and is no regular file");
  const std::string missing = (folder_ / "no/such/f").string();
  EXPECT_EQ(write_error(missing), "cannot write '" + missing + "': No such file or directory");
  const std::string slash = folder_.path().string() + "/new/";
  EXPECT_EQ(write_error(slash), "cannot write '" + slash + "': it names no file");
}

TEST_F(FileTest, ALinkIsNotFollowedWhereItMustNot) {
  const auto victim = folder_.write("victim", "mine");
  const auto link = folder_ / "link";
  std::filesystem::create_symlink(victim, link);
  EXPECT_EQ(message_of<InputError>([&] { atomic_write_file(link, "new", Links::kRefuse); }),
            "cannot write '" + link.string() + "': it is a symbolic link, expected a file or nothing");
  EXPECT_EQ(read_text_file(victim), "mine");
}

// Numbers of processes come again, in a container even those of the last start.
TEST_F(FileTest, ALeftTemporaryFileStopsNobody) {
  for (int i = 0; i < 1000; ++i) {
    folder_.write(".ufp4-" + std::to_string(::getpid()) + "-" + std::to_string(i) + ".tmp", "left");
  }
  atomic_write_file(folder_ / "f", "text");
  EXPECT_EQ(read_text_file(folder_ / "f"), "text");
  remove_left_temporaries(folder_.path());
  EXPECT_EQ(folder_.entries(), 1);
}

TEST_F(FileTest, OnlyTemporaryFilesThatNobodyWritesAreRemoved) {
  folder_.write(".ufp4-0123.tmp", "left");
  folder_.write(".ufp4-notes", "other");
  std::filesystem::create_symlink(folder_ / ".ufp4-notes", folder_ / ".ufp4-link.tmp");
  {
    AtomicFile writing(folder_ / "f");
    writing.write_at(0, std::as_bytes(std::span("half", 4)));
    remove_left_temporaries(folder_.path());
    EXPECT_FALSE(std::filesystem::exists(folder_ / ".ufp4-0123.tmp"));
    writing.commit();
  }
  EXPECT_EQ(read_text_file(folder_ / "f"), "half");
  EXPECT_EQ(read_text_file(folder_ / ".ufp4-notes"), "other");
}

TEST_F(FileTest, MakesFolders) {
  EXPECT_EQ(make_folder(folder_ / "a" / "b"),
            (std::vector<std::filesystem::path>{folder_ / "a", std::filesystem::path(folder_ / "a") / "b"}));
  EXPECT_TRUE(make_folder(folder_ / "a").empty());
  EXPECT_NE(message_of<InputError>([&] { make_folder(folder_ / std::string(300, 'x')); }).find("too long"),
            std::string::npos);
  const auto file = folder_.write("file", "x");
  EXPECT_NE(message_of<InputError>([&] { make_folder(file); }).find("File exists"), std::string::npos);
  EXPECT_NE(message_of<InputError>([&] { make_folder(file / "below"); }).find("file"), std::string::npos);
  EXPECT_NE(message_of<InputError>([&] { make_folder(""); }).find("empty"), std::string::npos);
}

TEST(FileErrors, AFullDiskIsNoWrongPath) {
  const auto thrown = [](std::errc error) {
    try {
      throw_file_error("write", "f", std::make_error_code(error));
    } catch (const InputError&) {
      return std::string("input");
    } catch (const RunError&) {
      return std::string("run");
    }
  };
  EXPECT_EQ(thrown(std::errc::no_space_on_device), "run");
  EXPECT_EQ(thrown(std::errc::io_error), "run");
  EXPECT_EQ(thrown(std::errc::filename_too_long), "input");
  EXPECT_EQ(thrown(std::errc::read_only_file_system), "input");
}

TEST_F(FileTest, TypesAreThoseOfTheEntriesThemselves) {
  using std::filesystem::file_type;
  const auto file = folder_.write("file", "x");
  std::filesystem::create_symlink(file, folder_ / "link");
  check_type(file, file_type::regular, "a file");
  check_type(folder_ / "nothing", file_type::regular, "a file");
  const auto message = [&](const char* name, file_type type) {
    return message_of<InputError>([&] { check_type(folder_ / name, type, "one of these"); });
  };
  EXPECT_NE(message("link", file_type::regular).find("is a symbolic link, expected one of these"), std::string::npos);
  EXPECT_NE(message("file", file_type::directory).find("is a file"), std::string::npos);
}

// A limit on the size of files stands for a full disk: both make a write fail half way.
class FullDisk : public FileTest {
 protected:
  void SetUp() override {
    old_handler_ = std::signal(SIGXFSZ, SIG_IGN);
    ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &old_limit_), 0);
    const rlimit limit{4096, old_limit_.rlim_max};
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
  }
  void TearDown() override {
    ::setrlimit(RLIMIT_FSIZE, &old_limit_);
    std::signal(SIGXFSZ, old_handler_);
  }

 private:
  rlimit old_limit_{};
  void (*old_handler_)(int) = nullptr;
};

TEST_F(FullDisk, NamesTheFileAndKeepsTheOldOne) {
  const auto path = folder_.write("f", "old");
  const std::string large(10'000, 'x');
  EXPECT_EQ(message_of<RunError>([&] { atomic_write_file(path, large); }),
            "cannot write '" + path.string() + "': File too large");
  EXPECT_EQ(message_of<RunError>([&] { AtomicFile(path).write_at(0, std::as_bytes(std::span(large))); }),
            "cannot write '" + path.string() + "': File too large");
  EXPECT_EQ(read_text_file(path), "old");
  EXPECT_EQ(folder_.entries(), 1);
}

TEST_F(FileTest, ReadsText) {
  EXPECT_EQ(read_text_file(folder_.write("f", "gr\xC3\xBC\xC3\x9F\n")), "gr\xC3\xBC\xC3\x9F\n");
  const auto path = folder_.write("bad", "line\nli\xFFne\n");
  EXPECT_EQ(message_of<InputError>([&] { read_text_file(path); }),
            "'" + path.string() + "' is no UTF-8 text: line 2, byte offset 7");
  EXPECT_EQ(message_of<InputError>([&] { read_text_file(path, 5); }),
            "cannot read '" + path.string() + "': it has 11 bytes, more than the 5 that a text may have here");
}

TEST(Utf8, AcceptsWellFormedText) {
  for (const std::string_view good : {"", "plain", "\xC2\x80", "\xDF\xBF", "\xE0\xA0\x80", "\xED\x9F\xBF",
                                      "\xEF\xBF\xBF", "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF"}) {
    EXPECT_EQ(find_invalid_utf8(good), std::string_view::npos) << good;
  }
}

TEST(Utf8, FindsTheFirstBadByte) {
  struct Case {
    std::string_view text;
    std::size_t at;
  };
  for (const auto& [text, at] : std::vector<Case>{{"\x80", 0},
                                                  {"a\xC3", 1},
                                                  {"\xC0\xAF", 0},          // overlong
                                                  {"\xE0\x9F\xBF", 0},      // overlong
                                                  {"ab\xED\xA0\x80", 2},    // a surrogate
                                                  {"\xF0\x8F\xBF\xBF", 0},  // overlong
                                                  {"\xF4\x90\x80\x80", 0},  // beyond U+10FFFF
                                                  {"\xF5\x80\x80\x80", 0},
                                                  {"\xE2\x82", 0},  // cut short
                                                  {"\xE2\x82\xAC\xE2\x28\xA1", 3}}) {
    EXPECT_EQ(find_invalid_utf8(text), at) << ::testing::PrintToString(text);
  }
}

}  // namespace
}  // namespace ufp4::io
