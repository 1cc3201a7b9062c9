// The position of a training stream and its text form.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace ufp4::data {

struct Position {
  std::uint32_t epoch = 0;
  std::int64_t sequence = 0;  // of the epoch
};

// {"data":"<fingerprint, 16 hex digits>","epoch":E,"sequence":S}
std::string write_position(const Position& position, std::uint64_t fingerprint);

// InputError: no such text, another fingerprint, or a sequence beyond `sequences`.
Position read_position(std::string_view text, std::uint64_t fingerprint, std::int64_t sequences);

// 64 bits of a text, the same on every machine.
std::uint64_t fingerprint_of(std::string_view text);

}  // namespace ufp4::data
