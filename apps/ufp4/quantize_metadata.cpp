#include "quantize_metadata.h"

#include <fmt/core.h>

#include <string>

#include "numerics/scale_rules.h"
#include "ufp4/format.h"

namespace ufp4::app {
namespace {

// The mask as --signs takes it: the highest element first.
std::string signs_text(int size, const Signs& signs) {
  std::string digits;
  for (int i = size / 4 - 1; i >= 0; --i) {
    const std::uint32_t word = signs[static_cast<std::size_t>(i) / 8];
    digits += fmt::format("{:X}", word >> (4 * (i % 8)) & 0xFU);
  }
  return "0x" + digits;
}

}  // namespace

io::Metadata quantize_metadata(const OperandSpec& spec, const Place& place) {
  io::Metadata metadata{{"ufp4.version", UFP4_VERSION},
                        {"ufp4.format", std::string(spec.format->name)},
                        {"ufp4.block", std::to_string(spec.block_size())},
                        {"ufp4.axis", std::string(name_of(place.axis))},
                        {"ufp4.hadamard", std::to_string(spec.hadamard.size)},
                        {"ufp4.rounding", std::string(name_of(spec.rounding))},
                        {"ufp4.seed", std::to_string(place.seed)},
                        {"ufp4.step", std::to_string(place.step)},
                        {"ufp4.stream", std::to_string(place.stream)}};
  if (spec.hadamard.size != 0) {
    metadata["ufp4.signs"] = signs_text(spec.hadamard.size, signs_of(spec, place));
    metadata["ufp4.hadamard_output"] = spec.hadamard.round_to_bf16 ? "bf16" : "f32";
  }
  if (spec.format->outer_scales.has(OuterScale::kRow)) metadata["ufp4.outer"] = std::string(name_of(spec.outer_each()));
  if (spec.format->has_window()) {
    metadata["ufp4.tau"] = reference::tau_of(spec) > 1 ? "9/8" : "1";
  }
  return metadata;
}

}  // namespace ufp4::app
