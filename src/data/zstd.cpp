#include <zstd.h>
#include <zstd_errors.h>

#include <memory>
#include <vector>

#include "data/text_reader.h"
#include "ufp4/error.h"

namespace ufp4::data {

void decompress_zstd(const std::string& name, std::string_view compressed,
                     const std::function<void(std::string_view)>& sink) {
  const std::unique_ptr<ZSTD_DCtx, decltype(&ZSTD_freeDCtx)> context(ZSTD_createDCtx(), &ZSTD_freeDCtx);
  if (!context) throw RunError(name + ": no memory to decompress it");
  ZSTD_DCtx_setParameter(context.get(), ZSTD_d_windowLogMax, kMaxZstdWindowLog);

  std::vector<char> piece(ZSTD_DStreamOutSize());
  ZSTD_inBuffer in{compressed.data(), compressed.size(), 0};
  std::size_t frame = 0;  // where the frame at hand begins
  bool in_frame = false;  // whether it is still incomplete
  bool full = false;      // whether the last piece was filled, so that more may wait without further input
  while (in.pos < in.size || (in_frame && full)) {
    if (!in_frame) frame = in.pos;
    ZSTD_outBuffer out{piece.data(), piece.size(), 0};
    const std::size_t left = ZSTD_decompressStream(context.get(), &out, &in);
    if (ZSTD_isError(left)) {
      std::string where = name + ": the zstd frame at byte " + std::to_string(frame);
      switch (ZSTD_getErrorCode(left)) {
        case ZSTD_error_frameParameter_windowTooLarge:
          throw InputError(where + " needs a window of more than 2^" + std::to_string(kMaxZstdWindowLog) +
                           " bytes; compress with --long=" + std::to_string(kMaxZstdWindowLog) + " at most");
        case ZSTD_error_memory_allocation: throw RunError(where + ": no memory to decompress it");
        case ZSTD_error_prefix_unknown:
          throw InputError(name + ": no zstd frame at byte " + std::to_string(frame) +
                           (frame == 0 ? " (is it compressed at all?)" : " (what follows the last frame?)"));
        default:
          throw InputError(where + " is damaged: " + ZSTD_getErrorName(left) + " (near byte " + std::to_string(in.pos) +
                           ")");
      }
    }
    in_frame = left != 0;
    full = out.pos == out.size;
    if (out.pos > 0) sink({piece.data(), out.pos});
  }
  if (in_frame) {
    throw InputError(name + ": truncated: the zstd frame at byte " + std::to_string(frame) +
                     " does not end in the file's " + std::to_string(in.size) + " bytes");
  }
}

}  // namespace ufp4::data
