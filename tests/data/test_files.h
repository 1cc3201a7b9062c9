// Files that the tests of the data layer make for themselves.
#pragma once

#include <gtest/gtest.h>
#include <zstd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "ufp4/error.h"

namespace ufp4::data {

// A folder of the test at hand, gone with it.
class TestFolder {
 public:
  TestFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "ufp4-data-test-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw RunError("no temporary folder");
    path_ = name;
  }
  ~TestFolder() { std::filesystem::remove_all(path_); }
  TestFolder(const TestFolder&) = delete;
  TestFolder& operator=(const TestFolder&) = delete;

  std::string operator/(const std::string& name) const { return (path_ / name).string(); }
  std::string write(const std::string& name, std::string_view bytes) const {
    std::ofstream file(path_ / name, std::ios::binary);
    file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    return *this / name;
  }

 private:
  std::filesystem::path path_;
};

inline std::string compress(std::string_view text, int window_log = 0) {
  ZSTD_CCtx* context = ZSTD_createCCtx();
  if (window_log > 0) {
    ZSTD_CCtx_setParameter(context, ZSTD_c_enableLongDistanceMatching, 1);
    ZSTD_CCtx_setParameter(context, ZSTD_c_windowLog, window_log);
  }
  // Streamed, without the size being known at the start: a frame then names its whole window.
  std::string compressed(ZSTD_compressBound(text.size()) + 64, '\0');
  ZSTD_outBuffer out{compressed.data(), compressed.size(), 0};
  const std::size_t half = text.size() / 2;
  ZSTD_inBuffer first{text.data(), half, 0};
  ZSTD_inBuffer second{text.data() + half, text.size() - half, 0};
  ZSTD_compressStream2(context, &out, &first, ZSTD_e_continue);
  const std::size_t left = ZSTD_compressStream2(context, &out, &second, ZSTD_e_end);
  ZSTD_freeCCtx(context);
  if (left != 0) throw RunError("the test's text was not compressed");
  compressed.resize(out.pos);
  return compressed;
}

// The message of the InputError that `run` must throw, with every part of `parts` in it.
inline void expect_input_error(const std::function<void()>& run, const std::vector<std::string>& parts) {
  try {
    run();
  } catch (const InputError& e) {
    for (const std::string& part : parts) {
      EXPECT_NE(std::string_view(e.what()).find(part), std::string_view::npos)
          << "'" << part << "' is not in: " << e.what();
    }
    return;
  }
  FAIL() << "no InputError; expected one with '" << (parts.empty() ? "" : parts.front()) << "'";
}

}  // namespace ufp4::data
