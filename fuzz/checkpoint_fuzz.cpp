// libFuzzer target of the JSON files of a checkpoint: any text is a state, a manifest or a position, which reads back
// when it is written, or is refused with an InputError. The first byte chooses.
#include "data/position.h"
#include "target.h"
#include "train/checkpoint_text.h"

namespace ufp4::fuzz {
namespace {

void read_state(std::string_view text) {
  const RunState state = parse_state(text, "fuzz");
  const RunState again = parse_state(state_text(state), "again");
  check(state.step >= 0 && again.step == state.step && again.tokens == state.tokens && again.skipped == state.skipped);
  check(again.skipped_in_row == state.skipped_in_row && again.data == state.data);
  check(again.data_fingerprint == state.data_fingerprint);
}

void read_manifest(std::string_view text) {
  const Manifest manifest = parse_manifest(text, "fuzz");
  check(parse_manifest(manifest_text(manifest), "again") == manifest);
}

void read_position(std::string_view text) {
  constexpr std::uint64_t kFingerprint = 0x0123456789abcdef;
  constexpr std::int64_t kSequences = 1000;
  const data::Position position = data::read_position(text, kFingerprint, kSequences);
  check(position.sequence >= 0 && position.sequence <= kSequences);
  const data::Position again =
      data::read_position(data::write_position(position, kFingerprint), kFingerprint, kSequences);
  check(again.epoch == position.epoch && again.sequence == position.sequence);
}

}  // namespace
}  // namespace ufp4::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace ufp4::fuzz;
  if (size < 1) return 0;
  const std::string_view text = text_of(Bytes(data, size).subspan(1));
  return read_or_refuse([&] {
    switch (data[0] % 3) {
      case 0: return read_state(text);
      case 1: return read_manifest(text);
      default: return read_position(text);
    }
  });
}
