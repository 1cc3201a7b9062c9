// The safetensors file format: 8 bytes of little-endian header length N, N bytes of JSON, the tensors' bytes.
//
// A reader trusts nothing: the whole header is checked before any tensor is given out, and every refusal is an
// InputError that names the file and the tensor.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/file.h"
#include "ufp4/dtype.h"

namespace ufp4::io {

enum class TensorType : std::uint8_t {
  kBool,
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kU64,
  kI64,
  kF16,
  kBF16,
  kF32,
  kF64,
  kC64,
  kF4,
  kF6E2M3,
  kF6E3M2,
  kF8E4M3,
  kF8E5M2,
  kF8E8M0,
};

// "F32", "BF16", "F8_E4M3", ..: as the header spells it.
std::string_view name_of(TensorType type);
// Bits of an element: 4 for F4, 6 for F6_*, else 8, 16, 32 or 64.
int bits_of(TensorType type);
// The library's type for a tensor that quantize can read; nothing for the others.
std::optional<DType> float_type(TensorType type);
TensorType tensor_type(DType dtype);

inline constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;  // the limit of the format's reference implementation
inline constexpr std::size_t kMaxNameBytes = 1024;
inline constexpr std::size_t kMaxDimensions = 64;

using Metadata = std::map<std::string, std::string>;

// A tensor as a writer declares it.
struct TensorSpec {
  std::string name;
  TensorType type = TensorType::kF32;
  std::vector<std::int64_t> shape;  // empty: a scalar

  // Throws InputError for a negative dimension or a size beyond 2^63 bytes.
  std::uint64_t byte_size() const;
};

// A tensor of a file.
struct TensorInfo : TensorSpec {
  std::uint64_t begin = 0;  // bytes from the start of the data to the first byte, and to the one behind the last
  std::uint64_t end = 0;
};

// What a header says. `data_size` is the size of the data that follows it.
struct SafetensorsHeader {
  std::vector<TensorInfo> tensors;  // in the order of the data
  Metadata metadata;                // of the key __metadata__
};

// Checks and reads the JSON of a header. `where` (a path) starts every message.
SafetensorsHeader parse_safetensors_header(std::string_view json, std::uint64_t data_size, std::string_view where);

// A safetensors file, mapped into memory. Methods may be called from several threads.
class SafetensorsReader {
 public:
  explicit SafetensorsReader(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return file_.path(); }
  std::span<const TensorInfo> tensors() const { return header_.tensors; }  // in the order of the data
  const Metadata& metadata() const { return header_.metadata; }

  // Null if there is none.
  const TensorInfo* find(std::string_view name) const;
  // Throws InputError with a near name if there is none.
  const TensorInfo& at(std::string_view name) const;

  // The tensor's bytes in the map; not aligned if the file's writer did not care. Throws RunError if the file has
  // changed its size.
  std::span<const std::byte> bytes(const TensorInfo& tensor) const;
  // Gives back the memory of a part of bytes(tensor) that was read (MappedFile::forget).
  void forget(std::span<const std::byte> part) const { file_.forget(part); }
  // Copies out.size() bytes from byte `offset` of the tensor.
  void read(const TensorInfo& tensor, std::uint64_t offset, std::span<std::byte> out) const;

 private:
  MappedFile file_;
  SafetensorsHeader header_;
  std::span<const std::byte> data_;
  std::map<std::string_view, const TensorInfo*> index_;
};

// Writes a file whose tensors are all declared first, so that memory stays bounded: their bytes may then come in any
// order and in pieces. The file appears under its name at commit() only (see AtomicFile). Tensors of wider elements
// come first in the file, so that every one is aligned.
class SafetensorsWriter {
 public:
  // Throws InputError for names that are empty, doubled, too long or not UTF-8.
  SafetensorsWriter(std::filesystem::path path, std::vector<TensorSpec> tensors, const Metadata& metadata = {});
  ~SafetensorsWriter();

  // Writes at byte `offset` of tensor number `index` of the declared ones. Several threads may write different ranges.
  void write(std::size_t index, std::uint64_t offset, std::span<const std::byte> bytes);
  // The whole tensor `index`.
  void write(std::size_t index, std::span<const std::byte> bytes);
  // Throws std::logic_error that names a tensor of which bytes are missing.
  void commit();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace ufp4::io
