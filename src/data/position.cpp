#include "data/position.h"

#include <limits>
#include <nlohmann/json.hpp>
#include <span>

#include "io/checksum.h"
#include "ufp4/error.h"

namespace ufp4::data {
namespace {

std::string hex(std::uint64_t value) {
  std::string digits(16, '0');
  for (auto digit = digits.rbegin(); digit != digits.rend(); ++digit, value >>= 4)
    *digit = "0123456789abcdef"[value & 15];
  return digits;
}

}  // namespace

std::string write_position(const Position& position, std::uint64_t fingerprint) {
  return nlohmann::json{{"data", hex(fingerprint)}, {"epoch", position.epoch}, {"sequence", position.sequence}}.dump();
}

Position read_position(std::string_view text, std::uint64_t fingerprint, std::int64_t sequences) {
  const auto wrong = [](const std::string& what) { return InputError("position of the training data: " + what); };
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, false);
  const auto whole = [&json](const char* key, std::uint64_t limit) {
    return json.contains(key) && json[key].is_number_unsigned() && json[key].get<std::uint64_t>() <= limit;
  };
  if (!json.is_object() || !json.contains("data") || !json["data"].is_string() ||
      !whole("epoch", std::numeric_limits<std::uint32_t>::max()) ||
      !whole("sequence", std::numeric_limits<std::int64_t>::max())) {
    throw wrong("expected an object with \"data\", \"epoch\" and \"sequence\"");
  }
  if (const auto& saved = json["data"].get_ref<const std::string&>(); saved != hex(fingerprint)) {
    throw wrong("it was taken on other data, or with another sequence length or seed (fingerprint " + saved +
                ", this data has " + hex(fingerprint) + ")");
  }
  const Position position{json["epoch"].get<std::uint32_t>(), json["sequence"].get<std::int64_t>()};
  if (position.sequence > sequences) {
    throw wrong("sequence " + std::to_string(position.sequence) + " of an epoch of " + std::to_string(sequences));
  }
  return position;
}

std::uint64_t fingerprint_of(std::string_view text) {
  const std::string sum = io::checksum(std::as_bytes(std::span(text)));
  return std::stoull(sum.substr(0, 16), nullptr, 16);
}

}  // namespace ufp4::data
