// The figures of every matrix of a safetensors file under a list of schemes, in bounded memory.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "analysis/matrix.h"
#include "io/safetensors.h"

namespace ufp4::analysis {

// A matrix of a file: tensors of more dimensions are taken as [product of the others, last].
struct TensorReport : MatrixReport {
  std::string name;
  std::string dtype;
};

struct FileAnalysis {
  std::vector<OperandSpec> schemes;
  std::uint64_t seed = 0;  // of the transform's signs
  int threads = 1;
  std::function<void(std::uint64_t bytes)> progress;  // called with the bytes of input done so far; may be empty
};

// What is told of each tensor, in the order of the file. Nothing is kept of it, since a file may hold very many.
struct FileSink {
  std::function<void(const TensorReport& tensor)> measured;
  std::function<void(const std::string& tensor)> skipped;  // "name: I64 [3]" of one that is no float matrix
};

// Bytes that analyze_file will report as progress in the end.
std::uint64_t bytes_to_read(const io::SafetensorsReader& file, const FileAnalysis& analysis);

// Rounds to nearest. All schemes share one read of the file, and one more where a format has a second-level scale for
// the tensor. Memory is bounded by the threads, not by the file.
void analyze_file(const io::SafetensorsReader& file, const FileAnalysis& analysis, const FileSink& sink);

}  // namespace ufp4::analysis
