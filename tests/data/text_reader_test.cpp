#include "data/text_reader.h"

#include <gtest/gtest.h>

#include <random>

#include "data/byte_store.h"
#include "data/test_files.h"

namespace ufp4::data {
namespace {

using Texts = std::vector<std::string>;

template <typename Reader, typename... More>
Texts read_with(Reader reader, const std::string& file, More... more) {
  Texts texts;
  reader(
      file, [&texts](std::string_view text) { texts.emplace_back(text); }, more...);
  return texts;
}

Texts text(const std::string& file) { return read_with(read_plain_text, file); }
Texts jsonl(const std::string& file, std::size_t max_line = kMaxLineBytes) {
  return read_with(read_jsonl, file, max_line);
}
Texts jsonl_zst(const std::string& file, std::size_t max_line = kMaxLineBytes) {
  return read_with(read_jsonl_zst, file, max_line);
}

std::string random_letters(std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::string letters;
  for (std::size_t i = 0; i < count; ++i) letters += static_cast<char>('a' + random() % 26);
  return letters;
}

TEST(PlainText, IsOneDocument) {
  const TestFolder folder;
  EXPECT_EQ(text(folder.write("a.txt", "one\ntwo – drei\n")), (Texts{"one\ntwo – drei\n"}));
}

TEST(PlainText, RefusesWhatIsNoText) {
  const TestFolder folder;
  const auto refuses = [&](std::string_view bytes, const std::vector<std::string>& parts) {
    const std::string file = folder.write("bad.txt", bytes);
    expect_input_error([&] { text(file); }, parts);
  };
  refuses("", {"bad.txt", "empty"});
  refuses(std::string_view("ab\0cd", 5), {"bad.txt", "NUL", "offset 2"});
  refuses("one\ntwo\xff", {"bad.txt:2", "not UTF-8", "offset 7"});
  refuses("cut \xe2\x82", {"bad.txt:1", "not UTF-8", "offset 4"});
  refuses("surrogate \xed\xa0\x80", {"not UTF-8", "offset 10"});
  expect_input_error([&] { text(folder / "missing.txt"); }, {"missing.txt"});
  std::filesystem::create_directory(folder / "folder.txt");
  expect_input_error([&] { text(folder / "folder.txt"); }, {"folder.txt"});
}

TEST(Jsonl, TakesTheTextOfEveryLine) {
  const TestFolder folder;
  const std::string lines =
      "{\"text\": \"one\\n\\u00e9\", \"meta\": {\"text\": 7, \"list\": [1, {\"text\": null}]}}\r\n"
      "\n"
      "  {\"id\": -1.5e3, \"text\": \"two\"}  \n"
      "{\"text\": \"\"}\n"
      "{\"text\": \"last \\ud83d\\ude00\"}";
  EXPECT_EQ(jsonl(folder.write("a.jsonl", lines)), (Texts{"one\né", "two", "last 😀"}));
}

TEST(Jsonl, RefusesByLine) {
  const TestFolder folder;
  const auto refuses = [&](std::string_view second_line, const std::vector<std::string>& parts) {
    const std::string lines = "{\"text\": \"fine\"}\n" + std::string(second_line) + "\n{\"text\": \"fine\"}\n";
    const std::string plain = folder.write("bad.jsonl", lines);
    const std::string packed = folder.write("bad.jsonl.zst", compress(lines));
    std::vector<std::string> all = parts;
    all.emplace_back("bad.jsonl:2: ");
    expect_input_error([&] { jsonl(plain); }, all);
    all.back() = "bad.jsonl.zst:2: ";
    expect_input_error([&] { jsonl_zst(packed); }, all);
  };
  refuses("{\"text\": \"cut", {"no valid JSON"});
  refuses("{\"text\": \"a\"} more", {"no valid JSON", "byte 15"});
  refuses("plain words", {"no valid JSON"});
  refuses(
      "\x7f"
      "ELF\x01\x02",
      {"no valid JSON"});
  refuses("{\"text\": \"\xff\"}", {"no valid JSON", "UTF-8"});
  refuses("{\"text\": \"\\ud800\"}", {"no valid JSON"});
  refuses("[\"text\"]", {"found an array"});
  refuses("\"text\"", {"found a string"});
  refuses("{}", {"no \"text\" field"});
  refuses("{\"texts\": \"a\"}", {"no \"text\" field", "texts"});
  refuses("{\"a\": {\"text\": \"deep\"}}", {"no \"text\" field"});
  refuses("{\"text\": 5}", {"a number", "not a string"});
  refuses("{\"text\": null}", {"null", "not a string"});
  refuses("{\"text\": [\"a\"]}", {"an array", "not a string"});
  refuses("{\"text\": {\"a\": 1}}", {"an object", "not a string"});
  refuses("{\"text\": \"a\", \"text\": \"b\"}", {"two \"text\" fields"});
}

TEST(Jsonl, RefusesWhatHasNoText) {
  const TestFolder folder;
  expect_input_error([&] { jsonl(folder.write("a.jsonl", "")); }, {"a.jsonl", "empty"});
  expect_input_error([&] { jsonl(folder.write("a.jsonl", "\n \n")); }, {"a.jsonl", "no text"});
  expect_input_error([&] { jsonl(folder.write("a.jsonl", "{\"text\": \"\"}\n")); }, {"a.jsonl", "no text"});
  expect_input_error([&] { jsonl_zst(folder.write("a.jsonl.zst", compress(""))); }, {"a.jsonl.zst", "no text"});
}

TEST(Jsonl, NestingTakesNoStack) {
  const TestFolder folder;
  const std::string deep = "{\"a\": " + std::string(2000000, '[') + std::string(2000000, ']') + ", \"text\": \"b\"}";
  EXPECT_EQ(jsonl(folder.write("deep.jsonl", deep)), Texts{"b"});
}

TEST(Jsonl, IgnoresWhateverOtherFieldsHold) {
  const TestFolder folder;
  const std::string digits(5000, '9');
  for (const std::string& value :
       {std::string("1e999"), "-1E+" + digits, digits, "0." + digits, "[" + digits + ", {\"n\": -1e-999}]",
        std::string(R"("\ud800")"), std::string(R"("\\\uDFFF and \uD83D\uDE00")")}) {
    for (const std::string& line : {"{\"n\": " + value + R"(, "text": "\ud83d\ude00 1e999 \u00e9"})",
                                    R"({"text": "\ud83d\ude00 1e999 \u00e9", "n": )" + value + "}"}) {
      EXPECT_EQ(jsonl(folder.write("a.jsonl", line)), Texts{"😀 1e999 é"}) << line.substr(0, 100);
    }
  }
  EXPECT_EQ(jsonl(folder.write("a.jsonl", R"({"text": "a", "\udc00": 1, "t\u0065xts": 2})")), Texts{"a"});
  EXPECT_EQ(jsonl(folder.write("a.jsonl", R"({"\u0074\u0065xt": "a"})")), Texts{"a"});
}

TEST(Jsonl, IgnoredFieldsMustBeJsonAllTheSame) {
  const TestFolder folder;
  for (const char* value : {"01", "1.", "1e", "1e+", ".5", "+1", "--1", "1 2", "00000", "\"\\ud80\"", "\"\\udzzz\"",
                            "\"\\x\"", "\"\xff\"", "\"\t\"", "nul", "[1,]", "{\"a\"}", "123456789 x"}) {
    const std::string file = folder.write("a.jsonl", std::string("{\"n\": ") + value + ", \"text\": \"a\"}");
    expect_input_error([&] { jsonl(file); }, {"a.jsonl:1: ", "no valid JSON"});
  }
  // The byte is the one of the line, whatever was passed over before it.
  const std::string numbers = "{\"n\": 123456789, \"m\": 1e99999, x";
  const std::string file = folder.write("a.jsonl", numbers);
  expect_input_error([&] { jsonl(file); }, {"byte " + std::to_string(numbers.size())});
  // Half of a surrogate pair in the text itself is no text.
  folder.write("a.jsonl", R"({"m": 12345, "text": "\ud800"})");
  expect_input_error([&] { jsonl(file); }, {"no valid JSON"});
  folder.write("a.jsonl", std::string_view("{\"text\": \"a\"}\0{", 15));
  expect_input_error([&] { jsonl(file); }, {"no valid JSON at byte 14", "zero byte"});
}

TEST(Jsonl, MessagesQuoteNoMoreThanALine) {
  const TestFolder folder;
  const std::string x(100'000, 'x');
  const std::string digits(100'000, '1');
  // NOLINTBEGIN(performance-inefficient-string-concatenation): six short sums of a test
  for (const std::string& line :
       {"{\"" + x + "\": 1}", "{\"text\": \"" + x + "\" " + x + "}", x, "{\"n\": \"" + x + "\\q\"}",
        std::string("{\"text\\u001b[2J\": 1}"), "{\"n\": " + digits + "x}"}) {
    // NOLINTEND(performance-inefficient-string-concatenation)
    try {
      jsonl(folder.write("a.jsonl", line));
      ADD_FAILURE() << "accepted";
    } catch (const InputError& error) {
      EXPECT_LT(std::string_view(error.what()).size(), 400U);
      EXPECT_EQ(std::string_view(error.what()).find('\x1b'), std::string_view::npos);
    }
  }
}

TEST(Foreign, PointersOfGitLfsAndCompanionsOfMacosAreNamed) {
  const TestFolder folder;
  const std::string pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n";
  const std::string companion("\0\5\x16\7\0\2\0\0Mac OS X        ", 24);
  for (const auto& [read, name] : std::vector<std::pair<void (*)(const std::string&), std::string>>{
           {[](const std::string& f) { text(f); }, "a.txt"},
           {[](const std::string& f) { jsonl(f); }, "a.jsonl"},
           {[](const std::string& f) { jsonl_zst(f); }, "a.jsonl.zst"}}) {
    const std::string file = folder.write(name, pointer);
    expect_input_error([&, &read = read] { read(file); }, {name, "Git LFS pointer", "git lfs pull"});
    folder.write(name, companion);
    expect_input_error([&, &read = read] { read(file); }, {name, "companion file of macOS"});
  }
  // A text that speaks of it is a text.
  EXPECT_EQ(text(folder.write("a.txt", "It begins with: " + pointer)).size(), 1U);
}

TEST(Jsonl, BoundsTheLengthOfALine) {
  const TestFolder folder;
  const std::string line = "{\"text\": \"" + std::string(500000, 'x') + "\"}\n";
  EXPECT_EQ(jsonl(folder.write("a.jsonl", line), 600000).size(), 1U);
  expect_input_error([&] { jsonl(folder / "a.jsonl", 1000); }, {"a.jsonl:1", "longer than 1000"});
  folder.write("a.jsonl.zst", compress(line));
  EXPECT_EQ(jsonl_zst(folder / "a.jsonl.zst", 600000).size(), 1U);
  expect_input_error([&] { jsonl_zst(folder / "a.jsonl.zst", 1000); }, {"a.jsonl.zst:1", "longer than 1000"});
}

TEST(Zstd, FramesFollowEachOther) {
  const TestFolder folder;
  // The second line goes over the border of two frames; a skippable frame stands between.
  const std::string skippable("\x50\x2a\x4d\x18\x03\0\0\0abc", 11);
  const std::string frames = compress("{\"text\": \"one\"}\n{\"text\": \"t") + skippable + compress("") +
                             compress("wo\"}\n{\"text\": \"three\"}\n");
  EXPECT_EQ(jsonl_zst(folder.write("a.jsonl.zst", frames)), (Texts{"one", "two", "three"}));
}

TEST(Zstd, TakesLongTextsAndWindowsUpTo27) {
  const TestFolder folder;
  const std::string body = random_letters(1000000, 1);
  const std::string lines = "{\"text\": \"" + body + "\"}\n{\"text\": \"" + body + "\"}\n";
  EXPECT_EQ(jsonl_zst(folder.write("a.jsonl.zst", compress(lines))), (Texts{body, body}));
  EXPECT_EQ(jsonl_zst(folder.write("b.jsonl.zst", compress(lines, 27))), (Texts{body, body}));
}

TEST(Zstd, RefusesWiderWindows) {
  const TestFolder folder;
  // By hand: a frame of one empty block whose window descriptor asks for 2^28 bytes.
  const std::string frame("\x28\xb5\x2f\xfd\x00\x90\x01\x00\x00", 9);
  expect_input_error([&] { jsonl_zst(folder.write("a.jsonl.zst", frame)); }, {"a.jsonl.zst", "2^27"});
}

TEST(Zstd, RefusesWhatIsNoFrame) {
  const TestFolder folder;
  expect_input_error([&] { jsonl_zst(folder.write("a.jsonl.zst", "")); }, {"a.jsonl.zst", "empty"});
  expect_input_error([&] { jsonl_zst(folder.write("a.jsonl.zst", "{\"text\": \"a\"}\n")); },
                     {"a.jsonl.zst", "no zstd frame at byte 0"});
  const std::string frame = compress("{\"text\": \"a\"}\n");
  expect_input_error([&] { jsonl_zst(folder.write("a.jsonl.zst", frame + "garbage")); },
                     {"no zstd frame at byte " + std::to_string(frame.size())});
}

TEST(Zstd, EveryTruncationIsRefused) {
  const TestFolder folder;
  std::string lines;
  for (unsigned i = 0; i < 20; ++i) lines += "{\"text\": \"" + random_letters(60, i) + "\"}\n";
  const std::string frame = compress(lines);
  EXPECT_EQ(jsonl_zst(folder.write("a.jsonl.zst", frame)).size(), 20U);
  for (std::size_t size = 1; size < frame.size(); ++size) {
    expect_input_error([&] { decompress_zstd("cut", frame.substr(0, size), [](std::string_view) {}); }, {"cut: "});
  }
  // Between two frames nothing is missing but lines; within the second something is.
  folder.write("b.jsonl.zst", frame + frame.substr(0, frame.size() / 2));
  expect_input_error([&] { jsonl_zst(folder / "b.jsonl.zst"); },
                     {"b.jsonl.zst: truncated", "byte " + std::to_string(frame.size())});
}

// Damage may go unnoticed where no checksum was written, but it ends in bytes or in an InputError, nothing else.
TEST(Zstd, DamageIsBytesOrAnError) {
  std::string lines;
  for (unsigned i = 0; i < 20; ++i) lines += "{\"text\": \"" + random_letters(60, i) + "\"}\n";
  const std::string frame = compress(lines);
  std::mt19937 random(5);
  int refused = 0;
  for (int i = 0; i < 2000; ++i) {
    std::string damaged = frame;
    for (auto n = 1 + random() % 3; n > 0; --n) {
      damaged[random() % damaged.size()] = static_cast<char>(random());
    }
    try {
      decompress_zstd("damaged", damaged, [](std::string_view) {});
    } catch (const InputError&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 200);
}

TEST(ByteStore, HoldsTheSameInMemoryAndOnDisk) {
  for (const std::int64_t limit : {0, 10, 5000, 1 << 20}) {
    ByteStore store(limit);
    std::string all;
    for (unsigned i = 0; i < 100; ++i) {
      const std::string piece = random_letters(i, i);
      store.append(piece);
      all += piece;
    }
    EXPECT_EQ(store.on_disk(), limit < static_cast<std::int64_t>(all.size()));
    EXPECT_EQ(store.size(), static_cast<std::int64_t>(all.size()));
    const auto bytes = store.finish();
    EXPECT_EQ(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()), all);
  }
  ByteStore empty(100);
  EXPECT_TRUE(empty.finish().empty());
}

}  // namespace
}  // namespace ufp4::data
