#include "data/position.h"

#include <limits>
#include <nlohmann/json.hpp>
#include <span>

#include "io/checksum.h"
#include "io/json.h"
#include "io/tensor_name.h"
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
  const std::string where = "position of the training data";
  const auto wrong = [&where](const std::string& what) { return InputError(where + ": " + what); };
  const nlohmann::json json = io::parse_json(text, where);
  const std::string saved = io::text_value(json, "data", where);
  const std::int64_t epoch = io::whole_number(json, "epoch", where);
  const std::int64_t sequence = io::whole_number(json, "sequence", where);
  if (saved != hex(fingerprint)) {
    throw wrong("it was taken on other data, or with another sequence length or seed (fingerprint " +
                io::show_name(saved) + ", this data has '" + hex(fingerprint) + "')");
  }
  constexpr auto kMostEpochs = std::numeric_limits<std::uint32_t>::max();
  if (epoch > kMostEpochs) {
    throw wrong("epoch " + std::to_string(epoch) + ", expected at most " + std::to_string(kMostEpochs));
  }
  if (sequence > sequences) {
    throw wrong("sequence " + std::to_string(sequence) + " of an epoch of " + std::to_string(sequences) +
                ", expected a position within it");
  }
  return {static_cast<std::uint32_t>(epoch), sequence};
}

std::uint64_t fingerprint_of(std::string_view text) {
  const std::string sum = io::checksum(std::as_bytes(std::span(text)));
  return std::stoull(sum.substr(0, 16), nullptr, 16);
}

}  // namespace ufp4::data
