#include "io/checksum.h"

#include <gtest/gtest.h>

#include <span>
#include <string_view>

#include "io/temporary_folder.h"

namespace ufp4::io {
namespace {

std::string of_text(std::string_view text) { return checksum(std::as_bytes(std::span(text))); }

// As `printf TEXT | xxh128sum` prints them.
TEST(Checksum, KnownAnswers) {
  EXPECT_EQ(of_text(""), "99aa06d3014798d86001c324468d497f");
  EXPECT_EQ(of_text("a"), "a96faf705af16834e6c632b61e964e1f");
}

TEST(Checksum, OfAFileIsThatOfItsBytes) {
  const TemporaryFolder folder;
  const std::string text(100'000, 'x');
  EXPECT_EQ(checksum_of_file(folder.write("f", text)), of_text(text));
  EXPECT_EQ(checksum_of_file(folder.write("empty", "")), of_text(""));
}

TEST(Checksum, OneBitChangesIt) {
  std::string text(1000, 'x');
  const std::string before = of_text(text);
  text[500] = 'y';
  EXPECT_NE(of_text(text), before);
}

}  // namespace
}  // namespace ufp4::io
