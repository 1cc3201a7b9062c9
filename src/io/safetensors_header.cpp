// The header of a safetensors file: element types, names, and the checks that come before any tensor is given out.
#include <algorithm>
#include <array>
#include <limits>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "io/safetensors.h"
#include "io/tensor_name.h"
#include "numerics/near_name.h"
#include "ufp4/error.h"

namespace ufp4::io {
namespace {

struct TypeRow {
  TensorType type;
  std::string_view name;
  int bits;
};

constexpr std::array kTypes = std::to_array<TypeRow>({
    {TensorType::kBool, "BOOL", 8},      {TensorType::kU8, "U8", 8},          {TensorType::kI8, "I8", 8},
    {TensorType::kU16, "U16", 16},       {TensorType::kI16, "I16", 16},       {TensorType::kU32, "U32", 32},
    {TensorType::kI32, "I32", 32},       {TensorType::kU64, "U64", 64},       {TensorType::kI64, "I64", 64},
    {TensorType::kF16, "F16", 16},       {TensorType::kBF16, "BF16", 16},     {TensorType::kF32, "F32", 32},
    {TensorType::kF64, "F64", 64},       {TensorType::kC64, "C64", 64},       {TensorType::kF4, "F4", 4},
    {TensorType::kF6E2M3, "F6_E2M3", 6}, {TensorType::kF6E3M2, "F6_E3M2", 6}, {TensorType::kF8E4M3, "F8_E4M3", 8},
    {TensorType::kF8E5M2, "F8_E5M2", 8}, {TensorType::kF8E8M0, "F8_E8M0", 8},
});

const TypeRow& row_of(TensorType type) { return kTypes[static_cast<std::size_t>(type)]; }

std::string shape_text(std::span<const std::int64_t> shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return text + "]";
}

// Reads the JSON as it is parsed, so that neither its depth nor its size can hurt: {name: {"dtype": string, "shape":
// [integers], "data_offsets": [begin, end]}, "__metadata__": {string: string}} and nothing else.
class HeaderHandler {
 public:
  explicit HeaderHandler(std::string_view where) : where_(where) {}

  SafetensorsHeader take() { return std::move(header_); }

  // The format's reference implementation reads null as no metadata.
  bool null() {
    if (place_ == Place::kTop && name_ == kMetadataKey) return true;
    refuse_value("null");
  }
  bool boolean(bool) { refuse_value("a boolean"); }
  bool number_integer(std::int64_t) { refuse_value("a negative number"); }
  bool number_float(double, const std::string& text) { refuse_value("the number " + text); }
  bool binary(nlohmann::json::binary_t&) { refuse_value("binary data"); }

  bool number_unsigned(std::uint64_t value) {
    if (place_ != Place::kShape && place_ != Place::kOffsets) refuse_value("a number");
    if (value > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
      fail(subject() + std::to_string(value) + " is beyond 63 bits");
    }
    if (place_ == Place::kShape) {
      if (tensor_.shape.size() == kMaxDimensions) {
        fail(subject() + "more than " + std::to_string(kMaxDimensions) + " dimensions");
      }
      tensor_.shape.push_back(static_cast<std::int64_t>(value));
    } else {
      if (offsets_seen_ == 0) tensor_.begin = value;
      if (offsets_seen_ == 1) tensor_.end = value;
      ++offsets_seen_;
    }
    return true;
  }

  bool string(std::string& value) {
    if (place_ == Place::kMetadata) {
      header_.metadata[key_] = std::move(value);
      return true;
    }
    if (place_ != Place::kTensor || key_ != "dtype") refuse_value("a string");
    const auto row = std::find_if(kTypes.begin(), kTypes.end(), [&](const TypeRow& r) { return r.name == value; });
    if (row == kTypes.end()) {
      std::vector<std::string_view> names;
      names.reserve(kTypes.size());
      for (const TypeRow& known : kTypes) names.push_back(known.name);
      fail(subject() + "unknown type " + show_name(value) + name_hint(value, names));
    }
    tensor_.type = row->type;
    return true;
  }

  bool start_object(std::size_t) {
    if (place_ == Place::kStart) {
      place_ = Place::kTop;
    } else if (place_ == Place::kTop && name_ == kMetadataKey) {
      place_ = Place::kMetadata;
    } else if (place_ == Place::kTop) {
      place_ = Place::kTensor;
      tensor_ = {};
      tensor_.name = name_;
      tensor_keys_.clear();
    } else {
      refuse_value("an object");
    }
    return true;
  }

  bool key(std::string& value) {
    if (place_ == Place::kTop) {
      if (!names_.insert(value).second) fail("two tensors are called " + show_name(value));
      if (const std::string why = why_bad_name(value); !why.empty() && value != kMetadataKey) {
        fail("tensor " + show_name(value) + ": its name " + why);
      }
      name_ = value;
    } else if (place_ == Place::kMetadata) {
      if (header_.metadata.contains(value)) fail("__metadata__ has the key " + show_name(value) + " twice");
    } else {
      static constexpr std::array<std::string_view, 3> kKeys{"dtype", "shape", "data_offsets"};
      if (std::find(kKeys.begin(), kKeys.end(), value) == kKeys.end()) {
        fail("tensor " + show_name(name_) + ": unknown key " + show_name(value) + name_hint(value, kKeys));
      }
      if (std::find(tensor_keys_.begin(), tensor_keys_.end(), value) != tensor_keys_.end()) {
        fail("tensor " + show_name(name_) + " has the key " + show_name(value) + " twice");
      }
      tensor_keys_.push_back(value);
    }
    key_ = std::move(value);
    return true;
  }

  bool end_object() {
    if (place_ == Place::kTensor) {
      for (const char* needed : {"dtype", "shape", "data_offsets"}) {
        if (std::find(tensor_keys_.begin(), tensor_keys_.end(), needed) == tensor_keys_.end()) {
          fail("tensor " + show_name(name_) + " has no " + needed);
        }
      }
      header_.tensors.push_back(std::move(tensor_));
    }
    place_ = place_ == Place::kTop ? Place::kEnd : Place::kTop;
    return true;
  }

  bool start_array(std::size_t) {
    if (place_ != Place::kTensor || key_ == "dtype") refuse_value("a list");
    place_ = key_ == "shape" ? Place::kShape : Place::kOffsets;
    offsets_seen_ = 0;
    return true;
  }

  bool end_array() {
    if (place_ == Place::kOffsets && offsets_seen_ != 2) {
      fail(subject() + std::to_string(offsets_seen_) + " numbers where two are expected");
    }
    place_ = Place::kTensor;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::json::exception&) {
    fail("the header is not valid JSON in UTF-8 at byte " + std::to_string(position) + " of the header");
  }

 private:
  enum class Place { kStart, kTop, kTensor, kMetadata, kShape, kOffsets, kEnd };

  [[noreturn]] void fail(const std::string& what) const { throw InputError("'" + where_ + "': " + what); }

  // The start of a message about the value at hand.
  std::string subject() const {
    if (place_ == Place::kMetadata) return "__metadata__: " + show_name(key_) + ": ";
    return "tensor " + show_name(name_) + ": " + key_ + ": ";
  }

  [[noreturn]] void refuse_value(const std::string& found) const {
    switch (place_) {
      case Place::kStart: fail("the header is " + found + ", not an object");
      case Place::kTop: fail(show_name(name_) + " is " + found + ", not an object");
      case Place::kMetadata: fail(subject() + "found " + found + ", expected a string");
      case Place::kTensor:
        fail(subject() + "found " + found + ", expected " + (key_ == "dtype" ? "a string" : "a list of whole numbers"));
      default: fail(subject() + "found " + found + ", expected whole numbers from 0");
    }
  }

  std::string where_;
  SafetensorsHeader header_;
  Place place_ = Place::kStart;
  std::unordered_set<std::string> names_;
  std::string name_;  // the key at the top, and the one at hand
  std::string key_;
  TensorInfo tensor_;
  std::vector<std::string> tensor_keys_;
  int offsets_seen_ = 0;
};

// What is wrong with the size and the place of a tensor taken alone; nothing if they are right.
std::string why_bad_extent(const TensorInfo& tensor, std::uint64_t data_size) {
  std::uint64_t size = 0;
  try {
    size = tensor.byte_size();
  } catch (const InputError& error) {
    return error.what();
  }
  const std::string range = "tensor " + show_name(tensor.name) + ": data_offsets [" + std::to_string(tensor.begin) +
                            ", " + std::to_string(tensor.end) + "]";
  if (tensor.begin > tensor.end) return range + " end before they begin";
  if (tensor.end > data_size) {
    return range + " reach beyond the " + std::to_string(data_size) + " bytes of data in the file";
  }
  if (tensor.end - tensor.begin != size) {
    return range + " hold " + std::to_string(tensor.end - tensor.begin) + " bytes, but " +
           std::string(name_of(tensor.type)) + " of shape " + shape_text(tensor.shape) + " takes " +
           std::to_string(size);
  }
  return {};
}

}  // namespace

std::string_view name_of(TensorType type) { return row_of(type).name; }

int bits_of(TensorType type) { return row_of(type).bits; }

std::optional<DType> float_type(TensorType type) {
  switch (type) {
    case TensorType::kF32: return DType::kF32;
    case TensorType::kBF16: return DType::kBF16;
    case TensorType::kF16: return DType::kF16;
    default: return std::nullopt;
  }
}

TensorType tensor_type(DType dtype) {
  switch (dtype) {
    case DType::kBF16: return TensorType::kBF16;
    case DType::kF16: return TensorType::kF16;
    case DType::kF32: break;
  }
  return TensorType::kF32;
}

std::uint64_t TensorSpec::byte_size() const {
  const auto refuse = [this](const char* why) {
    throw InputError("tensor " + show_name(name) + ": shape " + shape_text(shape) + " of " +
                     std::string(name_of(type)) + " " + why);
  };
  // A zero makes the tensor empty whatever the other dimensions are, so the product is taken without it.
  bool empty = false;
  std::int64_t bits = bits_of(type);
  for (const std::int64_t dimension : shape) {
    if (dimension < 0) refuse("has a negative dimension");
    if (dimension == 0) empty = true;
    if (dimension > 0 && __builtin_mul_overflow(bits, dimension, &bits)) refuse("is beyond 2^60 bytes");
  }
  if (empty) return 0;
  if (bits % 8 != 0) refuse("is no whole number of bytes");
  return static_cast<std::uint64_t>(bits) / 8;
}

SafetensorsHeader parse_safetensors_header(std::string_view json, std::uint64_t data_size, std::string_view where) {
  const auto fail = [&](const std::string& what) { throw InputError("'" + std::string(where) + "': " + what); };
  // The parser takes a zero byte for the end of its input.
  if (const std::size_t zero = json.find('\0'); zero != std::string_view::npos) {
    fail("the header has a zero byte at byte " + std::to_string(zero + 1));
  }
  HeaderHandler handler(where);
  nlohmann::json::sax_parse(json, &handler);
  SafetensorsHeader header = handler.take();

  for (const TensorInfo& tensor : header.tensors) {
    if (const std::string why = why_bad_extent(tensor, data_size); !why.empty()) fail(why);
  }

  std::stable_sort(header.tensors.begin(), header.tensors.end(), [](const TensorInfo& a, const TensorInfo& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
  });
  std::uint64_t position = 0;
  const TensorInfo* previous = nullptr;
  for (const TensorInfo& tensor : header.tensors) {
    if (tensor.begin < position)
      fail("tensors " + show_name(previous->name) + " and " + show_name(tensor.name) + " overlap");
    if (tensor.begin > position) {
      fail("tensor " + show_name(tensor.name) + " begins at byte " + std::to_string(tensor.begin) +
           " of the data, where byte " + std::to_string(position) + " was expected: no tensor owns the bytes between");
    }
    position = tensor.end;
    previous = &tensor;
  }
  if (position != data_size) {
    fail("the tensors end at byte " + std::to_string(position) + " of the data, but the file has " +
         std::to_string(data_size) + " bytes of data");
  }
  return header;
}

}  // namespace ufp4::io
