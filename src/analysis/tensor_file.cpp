#include "analysis/tensor_file.h"

#include <algorithm>
#include <mutex>

namespace ufp4::analysis {
namespace {

bool is_float_matrix(const io::TensorInfo& tensor) {
  return tensor.shape.size() >= 2 && io::float_type(tensor.type).has_value();
}

std::string describe(const io::TensorInfo& tensor) {
  std::string shape;
  for (const std::int64_t extent : tensor.shape) {
    if (!shape.empty()) shape += ", ";
    shape += std::to_string(extent);
  }
  return tensor.name + ": " + std::string(io::name_of(tensor.type)) + " [" + shape + "]";
}

MatrixSource source_of(const io::SafetensorsReader& file, const io::TensorInfo& tensor) {
  const DType dtype = *io::float_type(tensor.type);
  const std::int64_t columns = tensor.shape.back();
  std::int64_t rows = 1;
  for (std::size_t i = 0; i + 1 < tensor.shape.size(); ++i) rows *= tensor.shape[i];
  return {rows, columns, [&file, &tensor, dtype, columns](const Rectangle& part, std::span<float> out) {
            const std::span<const std::byte> bytes = file.bytes(tensor);
            const auto width = static_cast<std::size_t>(part.columns);
            const auto line = static_cast<std::size_t>(columns) * size_of(dtype);
            for (std::int64_t r = 0; r < part.rows; ++r) {
              const auto first = static_cast<std::size_t>((part.row + r) * columns + part.column);
              convert_to_float(bytes.data() + first * size_of(dtype), dtype,
                               out.subspan(static_cast<std::size_t>(r) * width, width));
            }
            file.forget(
                bytes.subspan(static_cast<std::size_t>(part.row) * line, static_cast<std::size_t>(part.rows) * line));
          }};
}

}  // namespace

std::uint64_t bytes_to_read(const io::SafetensorsReader& file, const FileAnalysis& analysis) {
  std::uint64_t bytes = 0;
  for (const io::TensorInfo& tensor : file.tensors()) {
    if (is_float_matrix(tensor)) bytes += tensor.end - tensor.begin;
  }
  return bytes * static_cast<std::uint64_t>(passes(analysis.schemes));
}

void analyze_file(const io::SafetensorsReader& file, const FileAnalysis& analysis, const FileSink& sink) {
  std::uint64_t done = 0;
  std::mutex mutex;
  for (const io::TensorInfo& tensor : file.tensors()) {
    if (!is_float_matrix(tensor)) {
      sink.skipped(describe(tensor));
      continue;
    }
    MatrixAnalysis matrix{analysis.schemes, {.seed = analysis.seed}, analysis.threads, {}};
    if (analysis.progress) {
      matrix.progress = [&, size = size_of(*io::float_type(tensor.type))](std::int64_t values) {
        const std::lock_guard lock(mutex);
        done += static_cast<std::uint64_t>(values) * size;
        analysis.progress(done);
      };
    }
    sink.measured(
        {analyze_matrix(source_of(file, tensor), matrix), tensor.name, std::string(io::name_of(tensor.type))});
  }
}

}  // namespace ufp4::analysis
