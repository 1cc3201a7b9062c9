// Files that stand where another one was meant, told by their first bytes.
#pragma once

#include <string_view>

namespace ufp4::io {

// What the content is, as the end of the sentence "it is ..": a Git LFS pointer or a companion file of macOS. Nothing
// for all other content.
std::string_view foreign_content(std::string_view bytes);

// Whether a file with this name is a companion of macOS: "._" and the name of the file that it is about.
bool is_macos_companion(std::string_view file_name);

}  // namespace ufp4::io
