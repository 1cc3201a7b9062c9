// Checksums against damage (not against an attacker): XXH3 of 128 bits, as `xxh128sum FILE` prints it.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>

namespace ufp4::io {

// 32 hexadecimal digits.
std::string checksum(std::span<const std::byte> bytes);

// The same of a file's content.
std::string checksum_of_file(const std::filesystem::path& path);

}  // namespace ufp4::io
