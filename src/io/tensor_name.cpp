#include "io/tensor_name.h"

#include <array>
#include <cstddef>

#include "io/file.h"
#include "io/safetensors.h"

namespace ufp4::io {
namespace {

// Whether a control character of Unicode (C0, delete, C1) starts at byte `i`.
bool control_at(std::string_view text, std::size_t i) {
  const auto byte = static_cast<unsigned char>(text[i]);
  if (byte < 0x20 || byte == 0x7F) return true;
  return byte == 0xC2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xA0;
}

}  // namespace

std::string printable(std::string_view text) {
  constexpr std::array<char, 17> kDigits{"0123456789abcdef"};
  std::string result;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const bool c1_tail = i > 0 && (byte & 0xC0) == 0x80 && control_at(text, i - 1);
    if (control_at(text, i) || c1_tail) {
      result += {'\\', 'x', kDigits[byte >> 4], kDigits[byte & 15]};
    } else {
      result += text[i];
    }
  }
  return result;
}

std::string why_bad_name(std::string_view name) {
  if (name.empty()) return "is empty";
  if (name == kMetadataKey) return "belongs to the metadata";
  if (name.size() > kMaxNameBytes) {
    return "has " + std::to_string(name.size()) + " bytes, more than " + std::to_string(kMaxNameBytes);
  }
  if (find_invalid_utf8(name) != std::string_view::npos) return "is not UTF-8";
  for (std::size_t i = 0; i < name.size(); ++i) {
    if (control_at(name, i)) return "holds a control character at byte " + std::to_string(i);
  }
  return {};
}

std::string show_name(std::string_view name) {
  constexpr std::size_t kHead = 48;
  constexpr std::size_t kTail = 24;
  if (name.size() <= kHead + kTail + 8) return "'" + printable(name) + "'";
  // Cut between characters, not inside one.
  const auto inside = [&](std::size_t i) { return (static_cast<unsigned char>(name[i]) & 0xC0) == 0x80; };
  std::size_t head = kHead;
  std::size_t tail = name.size() - kTail;
  while (head > 0 && inside(head)) --head;
  while (tail < name.size() && inside(tail)) ++tail;
  return "'" + printable(name.substr(0, head)) + "..." + printable(name.substr(tail)) + "'";
}

}  // namespace ufp4::io
