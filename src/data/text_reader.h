// Documents out of text files, checked from the first byte to the last.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

namespace ufp4::data {

// Receives one document, valid UTF-8; the view lives until the call returns.
using DocumentSink = std::function<void(std::string_view text)>;

// A longer line of a JSONL file is refused: it bounds the memory that a document (or a hostile file) can take.
inline constexpr std::size_t kMaxLineBytes = std::size_t{1} << 29;

// The greatest window (log2 of its bytes) of a zstd frame: what `zstd --long=27` writes and `zstd -d --long=27` reads.
inline constexpr int kMaxZstdWindowLog = 27;

// A whole file of UTF-8 text as one document. InputError: empty, not UTF-8, or binary (a NUL byte), with the offset.
void read_plain_text(const std::filesystem::path& path, const DocumentSink& sink);

// Every line's "text". Blank lines and empty texts are passed over. InputError naming the line: no JSON object, no
// "text" or two, one that is no string, a line of more than `max_line_bytes`; and a file without any text.
void read_jsonl(const std::filesystem::path& path, const DocumentSink& sink,
                std::size_t max_line_bytes = kMaxLineBytes);

// The same out of zstd frames, decompressed as they are read. InputError also for a truncated or damaged frame, with
// its offset, and for a window beyond kMaxZstdWindowLog.
void read_jsonl_zst(const std::filesystem::path& path, const DocumentSink& sink,
                    std::size_t max_line_bytes = kMaxLineBytes);

inline constexpr std::string_view kShardEnding = ".bin";

// A file of one of the kinds above, by the ending of its name. check_text_kind throws InputError for another kind, and
// what is wrong with a name that is no file.
void check_text_kind(const std::string& file);
void read_text(const std::string& file, const DocumentSink& sink);

// Decompresses zstd frames piece by piece. `name` is for messages.
void decompress_zstd(const std::string& name, std::string_view compressed,
                     const std::function<void(std::string_view)>& sink);

}  // namespace ufp4::data
