// Files as llm.c, nanoGPT and Megatron write them, made here by their descriptions.
#include "data/token_file.h"

#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "data/token_shard.h"
#include "data/token_store.h"
#include "io/temporary_folder.h"
#include "message_of.h"
#include "ufp4/error.h"

namespace ufp4::data {
namespace {

template <class T>
std::string bytes_of(const std::vector<T>& values) {
  std::string bytes(values.size() * sizeof(T), '\0');
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

std::string write(const TemporaryFolder& folder, const char* name, const std::string& bytes) {
  const std::filesystem::path path = folder / name;
  std::ofstream(path, std::ios::binary) << bytes;
  return path.string();
}

std::string llmc(std::int32_t magic, std::int32_t version, std::int32_t count, const std::string& tokens) {
  std::vector<std::int32_t> header(256);
  header[0] = magic;
  header[1] = version;
  header[2] = count;
  return bytes_of(header) + tokens;
}

// The documents as a run reads them.
std::vector<std::vector<std::int32_t>> documents_of(const std::string& file, const TokenFileSettings& settings) {
  const std::vector<std::string> files{file};
  const TokenStore store(files, 0, settings);
  std::vector<std::vector<std::int32_t>> list;
  for (const Piece& piece : store.documents()) {
    list.emplace_back(static_cast<std::size_t>(piece.length));
    store.copy(piece, 0, list.back());
  }
  return list;
}

using Documents = std::vector<std::vector<std::int32_t>>;

std::string megatron_index(const std::vector<std::int32_t>& lengths, const std::vector<std::int64_t>& places,
                           const std::vector<std::int64_t>& documents, char type = 8, std::uint64_t version = 1) {
  return std::string("MMIDIDX\0\0", 9) + bytes_of(std::vector<std::uint64_t>{version}) + type +
         bytes_of(std::vector<std::uint64_t>{lengths.size(), documents.size()}) + bytes_of(lengths) + bytes_of(places) +
         bytes_of(documents);
}

TEST(TokenFile, ReadsTheFilesOfLlmC) {
  const TemporaryFolder folder;
  const std::string gpt2 =
      write(folder, "a.bin", llmc(20240520, 1, 5, bytes_of<std::uint16_t>({50256, 1, 2, 50256, 3})));
  EXPECT_EQ(documents_of(gpt2, {}), (Documents{{1, 2}, {3}}));
  EXPECT_EQ(open_token_file(gpt2, {}).vocab_size, 50257U);
  const std::string llama =
      write(folder, "b.bin", llmc(20240801, 7, 4, bytes_of<std::uint32_t>({128000, 100000, 5, 128000})));
  EXPECT_EQ(documents_of(llama, {.format = "llm.c"}), (Documents{{100000, 5}}));
  const auto refused = [&](const std::string& bytes) {
    const std::string file = write(folder, "c.bin", bytes);
    return message_of<InputError>([&] { open_token_file(file, {.format = "llm.c"}); });
  };
  EXPECT_NE(refused(llmc(20240520, 1, 9, "abcd")).find("tells of 9 tokens, and 2 follow"), std::string::npos);
  EXPECT_NE(refused(llmc(20240520, 2, 2, "abcd")).find("version 2"), std::string::npos);
  EXPECT_NE(refused(llmc(20240520, 1, 2, "abc")).find("3 bytes of tokens"), std::string::npos);
  EXPECT_NE(refused("abc").find("no file of llm.c"), std::string::npos);
}

TEST(TokenFile, ReadsNanogptWhereItIsNamed) {
  const TemporaryFolder folder;
  const std::string file = write(folder, "train.bin", bytes_of<std::uint16_t>({7, 8, 50256, 9}));
  EXPECT_EQ(documents_of(file, {.format = "nanogpt"}), (Documents{{7, 8}, {9}}));
  EXPECT_EQ(documents_of(file, {.format = "nanogpt", .separator = 8}), (Documents{{7}, {50256, 9}}));
  EXPECT_NE(message_of<InputError>([&] { open_token_file(file, {}); }).find("no token shard"), std::string::npos);
  EXPECT_NE(message_of<InputError>([&] {
              documents_of(file, {.format = "nanogpt", .vocab_size = 65, .separator = 64});
            }).find("token 2 (at byte 4) is 50256, beyond the vocabulary of 65"),
            std::string::npos);
  EXPECT_NE(message_of<InputError>([&] {
              open_token_file(file, {.format = "nanogtp"});
            }).find("data.format is 'nanogtp' (did you mean 'nanogpt'?)"),
            std::string::npos);
}

TEST(TokenFile, ReadsMegatronWithItsIndex) {
  const TemporaryFolder folder;
  const std::string file = write(folder, "m_text_document.bin", bytes_of<std::uint16_t>({1, 2, 0, 3, 4, 5, 0}));
  const auto index = [&](const std::string& bytes) { write(folder, "m_text_document.idx", bytes); };
  const TokenFileSettings settings{.vocab_size = 10, .separator = 0};
  index(megatron_index({3, 2, 2}, {0, 6, 10}, {0, 1, 3}));
  EXPECT_EQ(documents_of(file, settings), (Documents{{1, 2}, {3, 4, 5}}));
  EXPECT_NE(message_of<InputError>([&] { open_token_file(file, {}); }).find("give data.vocab_size and data.separator"),
            std::string::npos);
  const auto refused = [&](const std::string& bytes) {
    index(bytes);
    return message_of<InputError>(
        [&] { open_token_file(file, {.format = "megatron", .vocab_size = 10, .separator = 0}); });
  };
  EXPECT_NE(refused(megatron_index({3, 9}, {0, 6}, {0, 1, 2})).find("sequence 1 has 9 tokens at byte 6"),
            std::string::npos);
  EXPECT_NE(refused(megatron_index({3, -2}, {0, 6}, {0, 1, 2})).find("sequence 1 has -2 tokens"), std::string::npos);
  EXPECT_NE(refused(megatron_index({3, 2}, {0, 7}, {0, 1, 2})).find("at byte 7"), std::string::npos);
  EXPECT_NE(refused(megatron_index({3, 2}, {0, 8}, {0, 2})).find("apart from the one before"), std::string::npos);
  EXPECT_NE(refused(megatron_index({3}, {0}, {0, 5})).find("sequences 0 to 5, of 1"), std::string::npos);
  EXPECT_NE(refused(megatron_index({3}, {0}, {0, 1}, 6)).find("tokens of type 6"), std::string::npos);
  EXPECT_NE(refused(megatron_index({3}, {0}, {0, 1}, 8, 2)).find("version 2"), std::string::npos);
  EXPECT_NE(refused(megatron_index({3}, {0}, {0, 1}).substr(0, 40)).find("too few"), std::string::npos);
  EXPECT_NE(refused("MMIDIDX").find("no index of Megatron"), std::string::npos);
}

TEST(TokenFile, ShardsKeepTheirTokenizer) {
  const TemporaryFolder folder;
  const std::vector<std::uint32_t> tokens{1, 2, 0};
  write_token_shard(folder / "a.bin", {.vocab_size = 5, .separator = 0, .tokenizer = 77}, tokens);
  write_token_shard(folder / "b.bin", {.vocab_size = 5, .separator = 0, .tokenizer = 78}, tokens);
  write_token_shard(folder / "c.bin", {.vocab_size = 5, .separator = 0}, tokens);
  const auto open = [&](std::vector<std::string> files) {
    for (std::string& file : files) file = (folder / file.c_str()).string();
    return TokenStore(files, 0).tokenizer();
  };
  EXPECT_EQ(open({"c.bin", "a.bin"}), 77U);
  EXPECT_EQ(open({"c.bin"}), 0U);
  EXPECT_NE(message_of<InputError>([&] { open({"a.bin", "b.bin"}); }).find("another tokenizer"), std::string::npos);
  const std::string a = (folder / "a.bin").string();
  EXPECT_NE(message_of<InputError>([&] { open_token_file(a, {.vocab_size = 6}); }).find("data.vocab_size is 6"),
            std::string::npos);
}

}  // namespace
}  // namespace ufp4::data
