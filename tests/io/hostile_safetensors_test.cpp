// Files that are damaged or made to do harm, each with the message that it gets.
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <string_view>

#include "io/safetensors.h"
#include "io/temporary_folder.h"
#include "message_of.h"
#include "ufp4/error.h"

namespace ufp4::io {
namespace {

std::string length_prefix(std::uint64_t length) {
  std::string bytes(sizeof length, '\0');
  std::memcpy(bytes.data(), &length, sizeof length);
  return bytes;
}

std::string file_of(std::string_view header, std::size_t data_size) {
  return length_prefix(header.size()) + std::string(header) + std::string(data_size, '\1');
}

std::string tensor(std::string_view type, std::string_view shape, std::string_view offsets) {
  return R"({"dtype":")" + std::string(type) + R"(","shape":)" + std::string(shape) + R"(,"data_offsets":)" +
         std::string(offsets) + "}";
}

std::string one(std::string_view type, std::string_view shape, std::string_view offsets) {
  return R"({"a":)" + tensor(type, shape, offsets) + "}";
}

struct HostileFile {
  const char* name;
  std::string bytes;
  std::string message;  // what follows the path
};

std::ostream& operator<<(std::ostream& stream, const HostileFile& file) { return stream << file.name; }

std::vector<HostileFile> hostile_files() {
  const std::string four = "[0,4]";
  const std::string not_one = " is not a safetensors file: ";
  return {
      {"empty", "", not_one + "it is empty"},
      {"shorter_than_length", "1234567", not_one + "it has 7 bytes, and the header's length takes 8"},
      {"length_only", length_prefix(2),
       not_one + "its header would have 2 bytes, but 0 are left in the file (was it cut short?)"},
      {"header_cut", length_prefix(100) + "{",
       not_one + "its header would have 100 bytes, but 1 are left in the file (was it cut short?)"},
      {"huge_header", length_prefix(1ull << 40),
       not_one + "its header would have 1099511627776 bytes, more than 100000000"},
      {"length_of_all_ones", std::string(64, '\xFF'),
       not_one + "its header would have 18446744073709551615 bytes, more than 100000000"},
      {"git_lfs_pointer", "version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 1000\n",
       not_one + "it is a Git LFS pointer, which stands for a file that was not fetched; 'git lfs pull' fetches it"},
      {"macos_companion", std::string("\0\5\x16\7\0\2\0\0Mac OS X        ", 24),
       not_one +
           "it is a companion file of macOS (AppleDouble), which holds attributes of another file and none of its "
           "content"},
      {"no_header", length_prefix(0), not_one + "its header does not begin with '{'"},
      {"text", "This is plain text, and it is long enough.",
       not_one + "its header would have 2338328219631577172 bytes, more than 100000000"},
      {"list", file_of("[]", 0), not_one + "its header does not begin with '{'"},
      {"space_first", file_of(" {}", 0), not_one + "its header does not begin with '{'"},
      {"broken_json", file_of(R"({"a":)", 0), ": the header is not valid JSON in UTF-8 at byte 6 of the header"},
      {"two_objects", file_of("{}{}", 0), ": the header is not valid JSON in UTF-8 at byte 3 of the header"},
      {"not_utf8", file_of("{\"a\xFF\":1}", 0), ": the header is not valid JSON in UTF-8 at byte 4 of the header"},
      {"zero_byte", file_of(std::string("{}\0", 3), 0), ": the header has a zero byte at byte 3"},
      {"entry_number", file_of(R"({"a":1})", 0), ": 'a' is a number, not an object"},
      {"entry_null", file_of(R"({"a":null})", 0), ": 'a' is null, not an object"},
      {"entry_list", file_of(R"({"a":[]})", 0), ": 'a' is a list, not an object"},
      {"no_type", file_of(R"({"a":{"shape":[],"data_offsets":[0,4]}})", 4), ": tensor 'a' has no dtype"},
      {"no_shape", file_of(R"({"a":{"dtype":"F32","data_offsets":[0,4]}})", 4), ": tensor 'a' has no shape"},
      {"no_offsets", file_of(R"({"a":{"dtype":"F32","shape":[1]}})", 4), ": tensor 'a' has no data_offsets"},
      {"unknown_key", file_of(R"({"a":{"shap":[1]}})", 4), ": tensor 'a': unknown key 'shap' (did you mean 'shape'?)"},
      {"key_twice", file_of(R"({"a":{"dtype":"F32","dtype":"U8"}})", 4), ": tensor 'a' has the key 'dtype' twice"},
      {"tensor_twice",
       file_of(R"({"a":)" + tensor("U8", "[0]", "[0,0]") + R"(,"a":)" + tensor("U8", "[0]", "[0,0]") + "}", 0),
       ": two tensors are called 'a'"},
      {"unknown_type", file_of(one("F31", "[1]", four), 4),
       ": tensor 'a': dtype: unknown type 'F31' (did you mean 'F32'?)"},
      {"type_number", file_of(R"({"a":{"dtype":32}})", 4), ": tensor 'a': dtype: found a number, expected a string"},
      {"shape_string", file_of(R"({"a":{"shape":"[1]"}})", 4),
       ": tensor 'a': shape: found a string, expected a list of whole numbers"},
      {"shape_negative", file_of(one("F32", "[-1]", four), 4),
       ": tensor 'a': shape: found a negative number, expected whole numbers from 0"},
      {"shape_float", file_of(one("F32", "[1.0]", four), 4),
       ": tensor 'a': shape: found the number 1.0, expected whole numbers from 0"},
      {"shape_nested", file_of(one("F32", "[[1]]", four), 4),
       ": tensor 'a': shape: found a list, expected whole numbers from 0"},
      {"shape_beyond_63_bits", file_of(one("F32", "[9223372036854775808]", four), 4),
       ": tensor 'a': shape: 9223372036854775808 is beyond 63 bits"},
      {"shape_beyond_64_bits", file_of(one("F32", "[99999999999999999999]", four), 4),
       ": tensor 'a': shape: found the number 99999999999999999999, expected whole numbers from 0"},
      {"shape_overflow", file_of(one("F32", "[4294967296,4294967296,4294967296]", four), 4),
       ": tensor 'a': shape [4294967296, 4294967296, 4294967296] of F32 is beyond 2^60 bytes"},
      {"bits_overflow", file_of(one("F32", "[4611686018427387904]", "[0,0]"), 0),
       ": tensor 'a': shape [4611686018427387904] of F32 is beyond 2^60 bytes"},
      {"empty_and_overflow", file_of(one("F64", "[0,9223372036854775807]", "[0,0]"), 0),
       ": tensor 'a': shape [0, 9223372036854775807] of F64 is beyond 2^60 bytes"},
      {"half_a_byte", file_of(one("F4", "[3]", "[0,1]"), 1),
       ": tensor 'a': shape [3] of F4 is no whole number of bytes"},
      {"one_offset", file_of(one("F32", "[1]", "[0]"), 4),
       ": tensor 'a': data_offsets: 1 numbers where two are expected"},
      {"three_offsets", file_of(one("F32", "[1]", "[0,4,8]"), 4),
       ": tensor 'a': data_offsets: 3 numbers where two are expected"},
      {"offsets_backwards", file_of(one("F32", "[1]", "[4,0]"), 4),
       ": tensor 'a': data_offsets [4, 0] end before they begin"},
      {"offsets_beyond", file_of(one("F32", "[2]", "[0,8]"), 4),
       ": tensor 'a': data_offsets [0, 8] reach beyond the 4 bytes of data in the file"},
      {"offsets_far_beyond", file_of(one("U8", "[1]", "[9223372036854775806,9223372036854775807]"), 4),
       ": tensor 'a': data_offsets [9223372036854775806, 9223372036854775807] reach beyond the 4 bytes of data in the "
       "file"},
      {"size_mismatch", file_of(one("F32", "[2]", four), 4),
       ": tensor 'a': data_offsets [0, 4] hold 4 bytes, but F32 of shape [2] takes 8"},
      {"overlap", file_of(R"({"a":)" + tensor("U8", "[4]", four) + R"(,"b":)" + tensor("U8", "[4]", "[2,6]") + "}", 6),
       ": tensors 'a' and 'b' overlap"},
      {"same_bytes", file_of(R"({"a":)" + tensor("U8", "[4]", four) + R"(,"b":)" + tensor("U8", "[4]", four) + "}", 4),
       ": tensors 'a' and 'b' overlap"},
      {"gap", file_of(R"({"a":)" + tensor("U8", "[1]", "[0,1]") + R"(,"b":)" + tensor("U8", "[1]", "[2,3]") + "}", 3),
       ": tensor 'b' begins at byte 2 of the data, where byte 1 was expected: no tensor owns the bytes between"},
      {"bytes_behind", file_of(one("F32", "[1]", four), 9),
       ": the tensors end at byte 4 of the data, but the file has 9 bytes of data"},
      {"data_without_tensors", file_of("{}", 1),
       ": the tensors end at byte 0 of the data, but the file has 1 bytes of data"},
      {"empty_name", file_of(R"({"":{}})", 0), ": tensor '': its name is empty"},
      {"escape_in_name", file_of(R"({"a\u001b[2J":{}})", 0),
       R"(: tensor 'a\x1b[2J': its name holds a control character at byte 1)"},
      {"zero_in_name", file_of(R"({"a\u0000b":{}})", 0),
       R"(: tensor 'a\x00b': its name holds a control character at byte 1)"},
      {"long_name", file_of("{\"" + std::string(100'000, 'n') + "\":{}}", 0),
       ": tensor '" + std::string(48, 'n') + "..." + std::string(24, 'n') +
           "': its name has 100000 bytes, more than 1024"},
      {"metadata_number", file_of(R"({"__metadata__":{"k":1}})", 0),
       ": __metadata__: 'k': found a number, expected a string"},
      {"metadata_nested", file_of(R"({"__metadata__":{"k":{}}})", 0),
       ": __metadata__: 'k': found an object, expected a string"},
      {"metadata_string", file_of(R"({"__metadata__":"x"})", 0), ": '__metadata__' is a string, not an object"},
      {"metadata_key_twice", file_of(R"({"__metadata__":{"k":"1","k":"2"}})", 0),
       ": __metadata__ has the key 'k' twice"},
      {"metadata_twice", file_of(R"({"__metadata__":{},"__metadata__":{}})", 0),
       ": two tensors are called '__metadata__'"},
      {"deep_objects",
       file_of(
           [] {
             std::string text;
             for (int i = 0; i < 100'000; ++i) text += "{\"a\":";
             return text;
           }(),
           0),
       ": tensor 'a': unknown key 'a'; known: dtype, shape, data_offsets"},
      {"deep_lists", file_of(R"({"a":{"shape":)" + std::string(100'000, '['), 0),
       ": tensor 'a': shape: found a list, expected whole numbers from 0"},
      {"many_dimensions",
       file_of(one(
                   "F32",
                   "[1" +
                       [] {
                         std::string text;
                         for (int i = 0; i < 100; ++i) text += ",1";
                         return text;
                       }() +
                       "]",
                   four),
               4),
       ": tensor 'a': shape: more than 64 dimensions"},
  };
}

class HostileSafetensors : public ::testing::TestWithParam<HostileFile> {};

TEST_P(HostileSafetensors, IsRefusedByName) {
  const TemporaryFolder folder;
  const auto path = folder.write("hostile.safetensors", GetParam().bytes);
  EXPECT_EQ(message_of<InputError>([&] { SafetensorsReader reader(path); }),
            "'" + path.string() + "'" + GetParam().message);
}

INSTANTIATE_TEST_SUITE_P(All, HostileSafetensors, ::testing::ValuesIn(hostile_files()),
                         [](const auto& file) { return std::string(file.param.name); });

// Odd, and still right: these open.
TEST(OddSafetensors, AreAccepted) {
  const TemporaryFolder folder;
  for (const auto& [bytes, tensors] : std::vector<std::pair<std::string, std::size_t>>{
           {file_of("{}", 0), 0},
           {file_of("{}    ", 0), 0},
           {file_of(R"({"__metadata__":{}})", 0), 0},
           {file_of(R"({"__metadata__":null})", 0), 0},
           {file_of(R"({"__metadata__":null,"a":)" + tensor("U8", "[1]", "[0,1]") + "}", 1), 1},
           {file_of(one("F64", "[0,1000000000]", "[0,0]"), 0), 1},
           {file_of(one("F32", "[]", "[0,4]"), 4), 1},
           {file_of(R"({"b":)" + tensor("U8", "[1]", "[1,2]") + R"(,"a":)" + tensor("BOOL", "[1]", "[0,1]") + "}", 2),
            2},
           {file_of(R"({"../../etc/passwd":)" + tensor("I8", "[1]", "[0,1]") + "}", 1), 1}}) {
    EXPECT_EQ(SafetensorsReader(folder.write("odd", bytes)).tensors().size(), tensors);
  }
}

TEST(OddSafetensors, TensorsComeInTheOrderOfTheData) {
  const TemporaryFolder folder;
  const SafetensorsReader reader(folder.write(
      "f", file_of(R"({"b":)" + tensor("U8", "[1]", "[1,2]") + R"(,"a":)" + tensor("U8", "[1]", "[0,1]") + "}", 2)));
  EXPECT_EQ(reader.tensors()[0].name, "a");
  EXPECT_EQ(reader.tensors()[1].name, "b");
}

TEST(OddSafetensors, AFileThatShrinksIsNoticed) {
  const TemporaryFolder folder;
  const auto path = folder.write("f", file_of(one("U8", "[100000]", "[0,100000]"), 100'000));
  const SafetensorsReader reader(path);
  std::filesystem::resize_file(path, 1000);
  EXPECT_NE(message_of<RunError>([&] { reader.bytes(reader.at("a")); }).find("changed while it was read"),
            std::string::npos);
}

}  // namespace
}  // namespace ufp4::io
