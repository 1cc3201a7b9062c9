#include <algorithm>
#include <atomic>
#include <cstring>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>
#include <stdexcept>

#include "io/safetensors.h"
#include "io/tensor_name.h"
#include "ufp4/error.h"

namespace ufp4::io {

namespace {

std::string json_text(std::string_view text) { return nlohmann::json(text).dump(); }

// "name":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}
void append_entry(const TensorInfo& tensor, std::string& text) {
  text += json_text(tensor.name);
  text += ":{\"dtype\":";
  text += json_text(name_of(tensor.type));
  text += ",\"shape\":[";
  for (std::size_t i = 0; i < tensor.shape.size(); ++i) {
    if (i > 0) text += ',';
    text += std::to_string(tensor.shape[i]);
  }
  text += "],\"data_offsets\":[" + std::to_string(tensor.begin) + "," + std::to_string(tensor.end) + "]}";
}

}  // namespace

struct SafetensorsWriter::State {
  AtomicFile file;
  std::vector<TensorInfo> tensors;  // as declared, with their place in the data
  std::vector<std::atomic<std::uint64_t>> written;
  std::uint64_t data_begin = 0;  // of the data in the file
};

SafetensorsWriter::SafetensorsWriter(std::filesystem::path path, std::vector<TensorSpec> tensors,
                                     const Metadata& metadata)
    : state_(new State{AtomicFile(std::move(path)), {}, std::vector<std::atomic<std::uint64_t>>(tensors.size()), 0}) {
  const std::string where = "cannot write '" + state_->file.target().string() + "': ";
  const auto refuse = [&](const std::string& why) { throw InputError(where + why); };
  std::set<std::string_view> names;
  for (const TensorSpec& tensor : tensors) {
    const std::string why = why_bad_name(tensor.name);
    if (!why.empty()) refuse("tensor " + show_name(tensor.name) + ": its name " + why);
    if (!names.insert(tensor.name).second) refuse("two tensors are called " + show_name(tensor.name));
  }

  std::vector<std::size_t> order(tensors.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return bits_of(tensors[a].type) > bits_of(tensors[b].type); });

  // Written as text at once: as a value of the JSON library a header takes kilobytes a tensor.
  std::string text;
  try {
    if (!metadata.empty()) text += json_text(kMetadataKey) + ":" + nlohmann::json(metadata).dump();
  } catch (const nlohmann::json::exception&) {
    throw InputError(where + "its metadata are not UTF-8");
  }
  std::uint64_t position = 0;
  state_->tensors.resize(tensors.size());
  for (const std::size_t i : order) {
    const std::uint64_t size = tensors[i].byte_size();
    state_->tensors[i] = TensorInfo{std::move(tensors[i]), position, position + size};
    position += size;
    if (!text.empty()) text += ',';
    append_entry(state_->tensors[i], text);
  }
  text = "{" + text + "}";
  text.resize((text.size() + 7) / 8 * 8, ' ');  // so that the data are aligned
  const std::uint64_t length = text.size();
  if (length > kMaxHeaderBytes) {
    throw InputError(where + "its header would have " + std::to_string(length) + " bytes, more than " +
                     std::to_string(kMaxHeaderBytes));
  }
  state_->data_begin = sizeof length + length;
  state_->file.reserve(state_->data_begin + position);
  state_->file.write_at(0, std::as_bytes(std::span(&length, 1)));
  state_->file.write_at(sizeof length, std::as_bytes(std::span(text)));
}

SafetensorsWriter::~SafetensorsWriter() = default;

void SafetensorsWriter::write(std::size_t index, std::uint64_t offset, std::span<const std::byte> bytes) {
  const TensorInfo& tensor = state_->tensors.at(index);
  const std::uint64_t size = tensor.end - tensor.begin;
  if (offset > size || bytes.size() > size - offset) {
    throw std::logic_error("tensor " + show_name(tensor.name) + " has " + std::to_string(size) + " bytes; " +
                           std::to_string(bytes.size()) + " were written from byte " + std::to_string(offset) + " on");
  }
  state_->file.write_at(state_->data_begin + tensor.begin + offset, bytes);
  state_->written[index] += bytes.size();
}

void SafetensorsWriter::write(std::size_t index, std::span<const std::byte> bytes) {
  const TensorInfo& tensor = state_->tensors.at(index);
  if (bytes.size() != tensor.end - tensor.begin) {
    throw std::logic_error("tensor " + show_name(tensor.name) + " has " + std::to_string(tensor.end - tensor.begin) +
                           " bytes, not " + std::to_string(bytes.size()));
  }
  write(index, 0, bytes);
}

void SafetensorsWriter::commit() {
  for (std::size_t i = 0; i < state_->tensors.size(); ++i) {
    const TensorInfo& tensor = state_->tensors[i];
    if (state_->written[i] != tensor.end - tensor.begin) {
      throw std::logic_error("tensor " + show_name(tensor.name) + " has " + std::to_string(tensor.end - tensor.begin) +
                             " bytes, of which " + std::to_string(state_->written[i]) + " were written");
    }
  }
  state_->file.commit();
}

}  // namespace ufp4::io
