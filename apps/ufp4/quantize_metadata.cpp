#include "quantize_metadata.h"

#include <fmt/core.h>

#include <string>

#include "ufp4/format.h"

namespace ufp4::app {
namespace {

// The mask as --signs takes it: the highest element first.
std::string signs_text(const Hadamard& hadamard) {
  std::string digits;
  for (int i = hadamard.size / 4 - 1; i >= 0; --i) {
    const std::uint32_t word = hadamard.signs[static_cast<std::size_t>(i) / 8];
    digits += fmt::format("{:X}", word >> (4 * (i % 8)) & 0xFU);
  }
  return "0x" + digits;
}

}  // namespace

io::Metadata quantize_metadata(const QuantizeSpec& spec) {
  const bool nearest = spec.rounding == Rounding::kNearest;
  io::Metadata metadata{{"ufp4.version", UFP4_VERSION},
                        {"ufp4.format", std::string(spec.format->name)},
                        {"ufp4.block", std::to_string(spec.block_size())},
                        {"ufp4.axis", spec.axis == Axis::kRow ? "row" : "column"},
                        {"ufp4.hadamard", std::to_string(spec.hadamard.size)},
                        {"ufp4.rounding", nearest ? "rtne" : "sr"},
                        {"ufp4.seed", std::to_string(spec.random.seed)},
                        {"ufp4.step", std::to_string(spec.random.step)},
                        {"ufp4.stream", std::to_string(spec.random.stream)}};
  if (spec.hadamard.size != 0) {
    metadata["ufp4.signs"] = signs_text(spec.hadamard);
    metadata["ufp4.hadamard_output"] = spec.hadamard.round_to_bf16 ? "bf16" : "f32";
  }
  if (spec.format->outer_is_free()) {
    const bool wide = spec.tau == 0 ? nearest : spec.tau > 1;
    metadata["ufp4.outer"] = std::string(name_of(spec.outer));
    metadata["ufp4.tau"] = wide ? "9/8" : "1";
  }
  return metadata;
}

}  // namespace ufp4::app
