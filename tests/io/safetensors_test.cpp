#include "io/safetensors.h"

#include <gtest/gtest.h>

#include <cstring>
#include <numeric>
#include <stdexcept>
#include <thread>

#include "io/temporary_folder.h"
#include "io/tensor_name.h"
#include "message_of.h"
#include "ufp4/error.h"

namespace ufp4::io {
namespace {

std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

class SafetensorsTest : public ::testing::Test {
 protected:
  TemporaryFolder folder_;
  std::filesystem::path path_ = folder_ / "t.safetensors";
};

TEST_F(SafetensorsTest, RoundTrip) {
  SafetensorsWriter writer(path_,
                           {{"codes", TensorType::kU8, {2, 3}},
                            {"layer.weight", TensorType::kF32, {1, 2}},
                            {"scalar", TensorType::kBF16, {}},
                            {"empty", TensorType::kI64, {0, 7}},
                            {"gr\xC3\xBC\xC3\x9F", TensorType::kF4, {2}}},
                           {{"format", "e1m2"}, {"note", "two\nlines"}});
  writer.write(1, bytes_of("12345678"));
  writer.write(0, 3, bytes_of("def"));  // in any order and in pieces
  writer.write(0, 0, bytes_of("abc"));
  writer.write(2, bytes_of("xy"));
  writer.write(3, {});
  writer.write(4, bytes_of("z"));
  EXPECT_FALSE(std::filesystem::exists(path_));
  writer.commit();
  EXPECT_EQ(folder_.entries(), 1);

  const SafetensorsReader reader(path_);
  ASSERT_EQ(reader.tensors().size(), 5u);
  EXPECT_EQ(reader.metadata(), (Metadata{{"format", "e1m2"}, {"note", "two\nlines"}}));
  EXPECT_EQ(text_of(reader.bytes(reader.at("codes"))), "abcdef");
  EXPECT_EQ(text_of(reader.bytes(reader.at("layer.weight"))), "12345678");
  EXPECT_EQ(text_of(reader.bytes(reader.at("scalar"))), "xy");
  EXPECT_EQ(text_of(reader.bytes(reader.at("gr\xC3\xBC\xC3\x9F"))), "z");
  EXPECT_TRUE(reader.bytes(reader.at("empty")).empty());
  EXPECT_EQ(reader.at("empty").shape, (std::vector<std::int64_t>{0, 7}));
  EXPECT_EQ(reader.at("scalar").type, TensorType::kBF16);
  EXPECT_TRUE(reader.at("scalar").shape.empty());
}

TEST_F(SafetensorsTest, WiderElementsComeFirstAndAreAligned) {
  SafetensorsWriter writer(path_,
                           {{"a", TensorType::kU8, {3}}, {"b", TensorType::kBF16, {1}}, {"c", TensorType::kF64, {1}}});
  writer.write(0, bytes_of("abc"));
  writer.write(1, bytes_of("bb"));
  writer.write(2, bytes_of("cccccccc"));
  writer.commit();
  const SafetensorsReader reader(path_);
  EXPECT_EQ(reader.tensors()[0].name, "c");
  for (const TensorInfo& tensor : reader.tensors()) {
    const auto address = reinterpret_cast<std::uintptr_t>(reader.bytes(tensor).data());
    EXPECT_EQ(address % (static_cast<std::size_t>(bits_of(tensor.type)) / 8), 0u) << tensor.name;
  }
}

TEST_F(SafetensorsTest, HoldsAHundredThousandTensors) {
  constexpr std::size_t kCount = 100'000;
  std::vector<TensorSpec> specs;
  specs.reserve(kCount);
  for (std::size_t i = 0; i < kCount; ++i) specs.push_back({"w" + std::to_string(i), TensorType::kU8, {1, 1}});
  SafetensorsWriter writer(path_, std::move(specs));
  for (std::size_t i = 0; i < kCount; ++i) writer.write(i, bytes_of(i % 2 == 0 ? "a" : "b"));
  writer.commit();
  const SafetensorsReader reader(path_);
  ASSERT_EQ(reader.tensors().size(), kCount);
  EXPECT_EQ(text_of(reader.bytes(reader.at("w99999"))), "b");
}

TEST_F(SafetensorsTest, NamesThatJsonMustEscapeComeBack) {
  const std::string name = "a\"b\\c/\xC3\xBC";
  SafetensorsWriter(path_, {{name, TensorType::kU8, {0}}}, {{"k\"", "\x01"}}).commit();
  const SafetensorsReader reader(path_);
  EXPECT_EQ(reader.at(name).name, name);
  EXPECT_EQ(reader.metadata(), (Metadata{{"k\"", "\x01"}}));
}

TEST_F(SafetensorsTest, PartialReads) {
  SafetensorsWriter writer(path_, {{"a", TensorType::kU8, {6}}});
  writer.write(0, bytes_of("abcdef"));
  writer.commit();
  const SafetensorsReader reader(path_);
  const TensorInfo& a = reader.at("a");
  std::string out(3, ' ');
  reader.read(a, 2, std::as_writable_bytes(std::span(out)));
  EXPECT_EQ(out, "cde");
  reader.read(a, 6, {});
  const std::string message =
      message_of<InputError>([&] { reader.read(a, 4, std::as_writable_bytes(std::span(out))); });
  EXPECT_EQ(message, "'" + path_.string() + "': tensor 'a' has 6 bytes; 3 from byte 4 on were asked for");
}

TEST_F(SafetensorsTest, NamesANearTensor) {
  SafetensorsWriter(path_, {{"layers.0.weight", TensorType::kU8, {0}}}).commit();
  const SafetensorsReader reader(path_);
  EXPECT_EQ(reader.find("x"), nullptr);
  EXPECT_EQ(message_of<InputError>([&] { reader.at("layers.0.wieght"); }),
            "'" + path_.string() + "' has no tensor 'layers.0.wieght' (did you mean 'layers.0.weight'?)");
}

TEST_F(SafetensorsTest, SeveralThreadsWriteOneTensor) {
  constexpr std::size_t kPieces = 64;
  constexpr std::size_t kPiece = 1000;
  std::string text(kPieces * kPiece, ' ');
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>('a' + i * 7 % 26);
  SafetensorsWriter writer(path_, {{"a", TensorType::kU8, {kPieces * kPiece}}});
  {
    std::vector<std::jthread> threads;
    for (std::size_t t = 0; t < 4; ++t) {
      threads.emplace_back([&, t] {
        for (std::size_t i = t; i < kPieces; i += 4) {
          writer.write(0, i * kPiece, bytes_of(text).subspan(i * kPiece, kPiece));
        }
      });
    }
  }
  writer.commit();
  const SafetensorsReader reader(path_);
  EXPECT_EQ(text_of(reader.bytes(reader.at("a"))), text);
}

TEST_F(SafetensorsTest, WriterRefusesBadNames) {
  const auto error = [&](const std::string& name) {
    return message_of<InputError>([&] { SafetensorsWriter(path_, {{name, TensorType::kU8, {0}}}); });
  };
  const std::string start = "cannot write '" + path_.string() + "': tensor ";
  EXPECT_EQ(error(""), start + "'': its name is empty");
  EXPECT_EQ(error("a\nb"), start + "'a\\x0ab': its name holds a control character at byte 1");
  EXPECT_EQ(error("__metadata__"), start + "'__metadata__': its name belongs to the metadata");
  EXPECT_EQ(error("a\xFF"), start + "'a\xFF': its name is not UTF-8");
  EXPECT_NE(error(std::string(2000, 'n')).find("its name has 2000 bytes, more than 1024"), std::string::npos);
  EXPECT_EQ(message_of<InputError>([&] {
              SafetensorsWriter(path_, {{"a", TensorType::kU8, {0}}, {"a", TensorType::kF32, {0}}});
            }),
            "cannot write '" + path_.string() + "': two tensors are called 'a'");
  EXPECT_EQ(message_of<InputError>([&] {
              SafetensorsWriter(path_, {{"a", TensorType::kU8, {-1}}});
            }),
            "tensor 'a': shape [-1] of U8 has a negative dimension");
  EXPECT_EQ(folder_.entries(), 0);
}

TEST_F(SafetensorsTest, WriterWantsEveryByteOnce) {
  {
    SafetensorsWriter writer(path_, {{"a", TensorType::kF32, {2}}});
    EXPECT_EQ(message_of<std::logic_error>([&] { writer.write(0, 4, bytes_of("12345")); }),
              "tensor 'a' has 8 bytes; 5 were written from byte 4 on");
    EXPECT_EQ(message_of<std::logic_error>([&] { writer.write(0, bytes_of("1234")); }),
              "tensor 'a' has 8 bytes, not 4");
    writer.write(0, 0, bytes_of("1234"));
    EXPECT_EQ(message_of<std::logic_error>([&] { writer.commit(); }),
              "tensor 'a' has 8 bytes, of which 4 were written");
  }
  EXPECT_EQ(folder_.entries(), 0);
}

TEST(TensorTypes, NamesAndSizes) {
  EXPECT_EQ(name_of(TensorType::kF8E4M3), "F8_E4M3");
  EXPECT_EQ(name_of(TensorType::kF8E8M0), "F8_E8M0");
  EXPECT_EQ(name_of(TensorType::kF32), "F32");
  EXPECT_EQ(bits_of(TensorType::kF64), 64);
  EXPECT_EQ(bits_of(TensorType::kF6E2M3), 6);
  EXPECT_EQ(bits_of(TensorType::kBool), 8);
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    EXPECT_EQ(float_type(tensor_type(dtype)), dtype);
    EXPECT_EQ(name_of(tensor_type(dtype)), name_of(dtype));
  }
  EXPECT_EQ(float_type(TensorType::kF64), std::nullopt);
}

TEST(TensorNames, TextIsPrintedWithoutControlCharacters) {
  EXPECT_EQ(printable("a\x1b[2J\n\xC2\x9B \xC3\xA9"), "a\\x1b[2J\\x0a\\xc2\\x9b \xC3\xA9");
}

TEST(TensorNames, AreShownSafely) {
  EXPECT_EQ(show_name("plain"), "'plain'");
  EXPECT_EQ(show_name("a\x1b[31m\x7f"), "'a\\x1b[31m\\x7f'");
  EXPECT_EQ(show_name("\xC2\x9B"), "'\\xc2\\x9b'");  // C1, which a terminal takes for an escape
  EXPECT_EQ(show_name("\xC3\xA9"), "'\xC3\xA9'");
  EXPECT_EQ(show_name(std::string(500, 'x')), "'" + std::string(48, 'x') + "..." + std::string(24, 'x') + "'");
}

}  // namespace
}  // namespace ufp4::io
