#include "io/checksum.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <array>

#include "io/file.h"

namespace ufp4::io {
namespace {

std::string hex(const XXH128_hash_t& hash) {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, hash);
  constexpr std::array<char, 17> kDigits{"0123456789abcdef"};
  std::string text;
  for (const unsigned char byte : canonical.digest) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

}  // namespace

std::string checksum(std::span<const std::byte> bytes) { return hex(XXH3_128bits(bytes.data(), bytes.size())); }

std::string checksum_of_file(const std::filesystem::path& path) {
  const MappedFile file(path);
  return checksum(file.bytes());
}

}  // namespace ufp4::io
