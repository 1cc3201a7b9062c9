#include <bit>
#include <cstring>

#include "io/foreign_file.h"
#include "io/safetensors.h"
#include "io/tensor_name.h"
#include "numerics/near_name.h"
#include "ufp4/error.h"

namespace ufp4::io {

static_assert(std::endian::native == std::endian::little, "the format's numbers are taken from memory as they stand");

SafetensorsReader::SafetensorsReader(const std::filesystem::path& path) : file_(path) {
  const auto fail = [&](const std::string& what) {
    throw InputError("'" + path.string() + "' is not a safetensors file: " + what);
  };
  const std::span<const std::byte> bytes = file_.bytes();
  std::uint64_t length = 0;
  if (bytes.empty()) fail("it is empty");
  if (const std::string_view what = foreign_content(file_.text()); !what.empty()) fail("it is " + std::string(what));
  if (bytes.size() < sizeof length)
    fail("it has " + std::to_string(bytes.size()) + " bytes, and the header's length takes 8");
  std::memcpy(&length, bytes.data(), sizeof length);
  if (length > kMaxHeaderBytes) {
    fail("its header would have " + std::to_string(length) + " bytes, more than " + std::to_string(kMaxHeaderBytes));
  }
  if (length > bytes.size() - sizeof length) {
    fail("its header would have " + std::to_string(length) + " bytes, but " +
         std::to_string(bytes.size() - sizeof length) + " are left in the file (was it cut short?)");
  }
  const std::string_view json = file_.text().substr(sizeof length, length);
  if (!json.starts_with('{')) fail("its header does not begin with '{'");
  data_ = bytes.subspan(sizeof length + length);
  header_ = parse_safetensors_header(json, data_.size(), path.string());
  for (const TensorInfo& tensor : header_.tensors) index_.emplace(tensor.name, &tensor);
}

const TensorInfo* SafetensorsReader::find(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : found->second;
}

const TensorInfo& SafetensorsReader::at(std::string_view name) const {
  if (const TensorInfo* tensor = find(name)) return *tensor;
  std::vector<std::string_view> names;
  for (const auto& [known, tensor] : index_) names.push_back(known);
  const std::string_view near = near_name(name, names);
  throw InputError("'" + path().string() + "' has no tensor " + show_name(name) +
                   (near.empty() ? "" : " (did you mean " + show_name(near) + "?)"));
}

std::span<const std::byte> SafetensorsReader::bytes(const TensorInfo& tensor) const {
  file_.check_unchanged();
  return data_.subspan(tensor.begin, tensor.end - tensor.begin);
}

void SafetensorsReader::read(const TensorInfo& tensor, std::uint64_t offset, std::span<std::byte> out) const {
  const std::span<const std::byte> all = bytes(tensor);
  if (offset > all.size() || out.size() > all.size() - offset) {
    throw InputError("'" + path().string() + "': tensor " + show_name(tensor.name) + " has " +
                     std::to_string(all.size()) + " bytes; " + std::to_string(out.size()) + " from byte " +
                     std::to_string(offset) + " on were asked for");
  }
  if (!out.empty()) std::memcpy(out.data(), all.data() + offset, out.size());
}

}  // namespace ufp4::io
