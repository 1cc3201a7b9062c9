#include "data/token_shard.h"

#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <sstream>

#include "data/test_files.h"
#include "data/token_store.h"

namespace ufp4::data {
namespace {

std::string content(const std::string& file) {
  std::ostringstream all;
  all << std::ifstream(file, std::ios::binary).rdbuf();
  return all.str();
}

std::vector<std::int32_t> row_of(const TokenStore& store) {
  const TokenRow row(store, store.documents());
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(row.size()));
  row.copy(0, tokens);
  return tokens;
}

TEST(TokenShard, HasTheDocumentedBytes) {
  const TestFolder folder;
  write_token_shard(folder / "a.bin", {.token_bytes = 2, .vocab_size = 1000, .separator = 3},
                    std::vector<std::uint32_t>{999, 3});
  const std::string expected(
      "UFP4TOK\0"
      "\x01\0\0\0"
      "\x02\0\0\0"
      "\xe8\x03\0\0"
      "\x03\0\0\0"
      "\x02\0\0\0\0\0\0\0"
      "\0\0\0\0\0\0\0\0"
      "\xe7\x03\x03\0",
      44);
  EXPECT_EQ(content(folder / "a.bin"), expected);
}

TEST(TokenShard, ComesBackAsDocuments) {
  const TestFolder folder;
  for (const std::uint32_t width : {2U, 4U}) {
    const std::uint32_t vocab = width == 2 ? 65536 : 200000;
    const std::uint32_t top = vocab - 1;
    const std::string file = folder / ("a" + std::to_string(width) + ".bin");
    // Separators at the start, twice in a row; the last document is not ended.
    write_token_shard(file, {.token_bytes = width, .vocab_size = vocab, .separator = 0},
                      std::vector<std::uint32_t>{0, 5, top, 0, 0, 7, 0, 1, 2});
    const TokenStore store(std::vector{file}, 0);
    EXPECT_EQ(store.vocab_size(), static_cast<std::int32_t>(vocab));
    EXPECT_EQ(store.separator(), 0);
    EXPECT_EQ(store.documents().size(), 3U);
    EXPECT_EQ(row_of(store), (std::vector<std::int32_t>{5, static_cast<std::int32_t>(top), 0, 7, 0, 1, 2, 0}));
  }
}

TEST(TokenShard, WriterRefusesWhatTheReaderWould) {
  const TestFolder folder;
  const auto refuses = [&](ShardHeader header, const std::vector<std::uint32_t>& tokens, const std::string& part) {
    expect_input_error([&] { write_token_shard(folder / "a.bin", header, tokens); }, {"a.bin", part});
    EXPECT_FALSE(std::filesystem::exists(folder / "a.bin"));
  };
  refuses({.token_bytes = 3, .vocab_size = 10}, {1}, "2 or 4 bytes");
  refuses({.token_bytes = 2, .vocab_size = 65537}, {1}, "65536");
  refuses({.token_bytes = 4, .vocab_size = 0x80000000U}, {1}, "2147483647");
  refuses({.token_bytes = 2, .vocab_size = 10, .separator = 10}, {1}, "separator 10");
  refuses({.token_bytes = 2, .vocab_size = 10}, {}, "no tokens");
  refuses({.token_bytes = 2, .vocab_size = 10}, {1, 9, 10}, "token 2 is 10");
}

TEST(TokenShard, ReaderNamesWhatIsWrong) {
  const TestFolder folder;
  write_token_shard(folder / "good.bin", {.token_bytes = 2, .vocab_size = 1000, .separator = 0},
                    std::vector<std::uint32_t>{1, 2, 3, 0});
  const std::string good = content(folder / "good.bin");
  const auto refuses = [&](const std::string& bytes, const std::vector<std::string>& parts) {
    const std::string file = folder.write("bad.bin", bytes);
    std::vector<std::string> all = parts;
    all.emplace_back("bad.bin: ");
    expect_input_error([&] { TokenStore(std::vector{file}, 0); }, all);
  };
  const auto with = [&good](std::size_t offset, const std::string& bytes) {
    return std::string(good).replace(offset, bytes.size(), bytes);
  };
  refuses("", {"empty"});
  refuses("plain text of some length, more than a header has", {"no token shard"});
  for (std::size_t size = 1; size < good.size(); ++size) {
    refuses(good.substr(0, size), {size < 8 ? "no token shard" : "truncated"});
  }
  refuses(good + "more", {"too long"});
  refuses(with(8, "\x02"), {"version 1", "found 2"});
  refuses(with(12, "\x08"), {"2 or 4", "found 8"});
  refuses(with(16, std::string("\x01\0", 2)), {"vocabulary"});
  refuses(with(20, "\xe8\x03"), {"separator 1000"});
  refuses(with(24, std::string(8, '\0')), {"no tokens"});
  refuses(with(24, std::string(8, '\xff')), {"truncated", "18446744073709551615"});
  refuses("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", {"Git LFS pointer"});
  refuses(with(44, "\xe8\x03"), {"token 2 (at byte 44) is 1000", "vocabulary of 1000"});
  refuses(with(40, std::string(8, '\0')), {"separators only"});
}

TEST(TokenStore, SourcesOfOneVocabularyMix) {
  const TestFolder folder;
  write_token_shard(folder / "bytes.bin", {.token_bytes = 2, .vocab_size = 257, .separator = 256},
                    std::vector<std::uint32_t>{'c', 'd', 256, 'e'});
  const std::vector<std::string> files = {folder.write("a.txt", "ab"), folder / "bytes.bin",
                                          folder.write("f.jsonl", "{\"text\": \"f\"}\n")};
  EXPECT_EQ(row_of(TokenStore(files, 0)),
            (std::vector<std::int32_t>{'a', 'b', 256, 'c', 'd', 256, 'e', 256, 'f', 256}));
}

TEST(TokenStore, SourcesOfDifferentVocabulariesDoNot) {
  const TestFolder folder;
  write_token_shard(folder / "a.bin", {.token_bytes = 2, .vocab_size = 1000, .separator = 0},
                    std::vector<std::uint32_t>{1, 2});
  write_token_shard(folder / "b.bin", {.token_bytes = 2, .vocab_size = 1000, .separator = 5},
                    std::vector<std::uint32_t>{1, 2});
  const std::string text = folder.write("a.txt", "ab");
  expect_input_error([&] { TokenStore(std::vector{text, folder / "a.bin"}, 0); }, {"a.bin", "1000", "a.txt", "257"});
  expect_input_error([&] { TokenStore(std::vector{folder / "a.bin", folder / "b.bin"}, 0); }, {"b.bin", "separator 5"});
}

TEST(TokenStore, NamesTheKindsItKnows) {
  const TestFolder folder;
  const auto refuses = [&](const std::string& name, const std::vector<std::string>& parts) {
    const std::string file = folder.write(name, "text");
    expect_input_error([&] { TokenStore(std::vector{file}, 0); }, parts);
  };
  refuses("a.jsnl", {"a.jsnl", "did you mean '.jsonl'", ".txt, .jsonl, .jsonl.zst, .bin"});
  refuses("a.txt.zst", {"'.txt.zst'", ".jsonl.zst"});
  refuses("a.parquet", {"'.parquet'", ".jsonl.zst"});
  refuses("noending", {"noending", "without an ending"});
  expect_input_error([&] { TokenStore(std::vector{folder / "missing"}, 0); }, {"missing"});
  expect_input_error([&] { TokenStore(std::vector{folder / ""}, 0); }, {});
}

}  // namespace
}  // namespace ufp4::data
