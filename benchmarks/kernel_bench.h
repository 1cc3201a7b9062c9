// Measures quantization and dequantization of one backend against the memcpy of the same machine, on one thread and
// with matrices that no cache holds. Free of torch; `ufp4 bench` and docs/performance.md take their figures from here.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "ufp4/backend.h"
#include "ufp4/quantize.h"

namespace ufp4::bench {

// What is done to the matrix.
enum class Kernel : std::uint8_t {
  kMemcpy,      // the matrix copied: the ceiling
  kRow,         // quantize along the rows to codes and scales
  kColumn,      // quantize along the columns to codes and scales
  kRowColumn,   // both, from one read of the matrix
  kDequantize,  // codes and scales to BF16
};

struct KernelCase {
  Kernel kernel = Kernel::kRow;
  const BlockFormat* format = nullptr;
  int hadamard = 16;
  Rounding rounding = Rounding::kNearest;
  DType input = DType::kBF16;
};

struct BenchOptions {
  std::int64_t rows = 8192;  // 64 MiB of BF16
  std::int64_t columns = 4096;
  int repeats = 15;
};

// One line of the table.
struct KernelRow {
  std::string kernel;          // "memcpy", "quantize" or "dequantize"
  std::string format;          // "-" for memcpy
  int hadamard = 0;            // size of the transform, 0 for none
  std::string rounding;        // "rtne" or "sr", "-" where nothing is rounded
  std::string axis;            // "row", "column", "both", "-"
  std::string input;           // "BF16", ..
  std::int64_t bytes = 0;      // read + written
  double microseconds = 0;     // of the thread's own time, median over the repeats
  double gb_per_s = 0;         // bytes / microseconds, 1 GB = 1e9 bytes
  double share_of_memcpy = 0;  // median over the repeats, each against the memcpy right before and right after it
};

// A kernel with its matrix and results in memory, ready to run.
class PreparedKernel {
 public:
  PreparedKernel(const Backend& backend, const KernelCase& what, std::int64_t rows, std::int64_t columns);
  void run() const { work_(); }
  // Names and bytes; no times.
  const KernelRow& row() const { return row_; }

 private:
  struct Memory;
  std::shared_ptr<Memory> memory_;
  std::function<void()> work_;
  KernelRow row_;
};

// The cases that the documentation shows: e1m2, int4_full and e2m1 over axes, roundings, transforms and input types,
// and the formats of others that have kernels.
std::vector<KernelCase> standard_cases();

// Measures each case; memcpy and the kernel run by turns, so that a busy machine slows both.
// The first row is memcpy over all repeats. `progress`, if given, is called with each row as soon as it is known.
std::vector<KernelRow> measure_kernels(const Backend& backend, const std::vector<KernelCase>& cases,
                                       const BenchOptions& options,
                                       const std::function<void(const KernelRow&)>& progress = {});

}  // namespace ufp4::bench
