// Quantizes the tensors of a safetensors file into another one.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "ufp4/backend.h"
#include "ufp4/quantize.h"

namespace ufp4::app {

struct QuantizeFileJob {
  std::filesystem::path in;
  std::filesystem::path out;
  OperandSpec spec;
  Place place;  // of every tensor: axis, seed, step, stream
  const Backend* backend = nullptr;
  unsigned threads = 1;
};

struct QuantizeFileResult {
  std::size_t tensors = 0;
  std::uint64_t bytes_read = 0;
  std::vector<std::string> skipped;  // "'name': why"
};

// For every 2-D tensor `t` of F32, F16 or BF16 writes t.codes (U8 [rows, padded / 2]), t.scales (F32 [rows, padded /
// block]), t.global_scale (F32, a scalar) and t.dequant (F32 [rows, padded]); for Axis::kColumn of the transposed
// tensor. Memory is bounded by a few tiles a thread, whatever the tensors' sizes; the threads change no bit. `out`
// appears when all is done; after SIGINT or SIGTERM, or any failure, it is as it was before.
QuantizeFileResult quantize_file(const QuantizeFileJob& job);

}  // namespace ufp4::app
