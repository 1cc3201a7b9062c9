// Everything that quantize can write, wherever the memory is, and the first difference between two results.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "ufp4/backend.h"
#include "ufp4/quantize.h"

namespace ufp4::testing {

// The arrays of a Quantized, in the order in which they are compared.
enum class Array : std::uint8_t {
  kScales,
  kCodes,
  kValues,
  kSelectors,
  kPackedScales,
  kOuterScales,
  kE4m3,
  kInt8,
  kAmax,
  kClipped
};
inline constexpr std::size_t kArrays = 10;

// What a call is asked for. What a format does not have is left out by itself.
struct Wanted {
  bool codes = true;
  bool scales = true;
  std::optional<DType> values = DType::kF32;
  bool selectors = true;
  bool packed_scales = true;
  bool outer_scales = true;
  bool int8 = true;
  // Results for a GPU's FP8 product; CPU backends leave a task that asks for one of them to the reference.
  bool e4m3 = false;
  bool window = false;  // amax and clipped
};

// One array: [rows, per_row] elements of `width` bytes. No rows: it is not wanted.
struct ArrayShape {
  const char* name = "";
  std::int64_t rows = 0;
  std::int64_t per_row = 0;
  std::size_t width = 1;
  std::uint8_t fill = 0;  // every byte at first: what is raised begins at 0, and what is written is not what it was

  std::size_t bytes() const { return static_cast<std::size_t>(rows * per_row) * width; }
};
using ArrayShapes = std::array<ArrayShape, kArrays>;

// Of what a task, whose results do not matter, writes for a stored [rows, columns] matrix.
ArrayShapes array_shapes(std::int64_t rows, std::int64_t columns, const QuantizeTask& task, const Wanted& wanted);

// The results at these addresses, by Array. What has no rows is null.
Quantized results_at(const std::array<void*, kArrays>& addresses, const ArrayShapes& shapes, const Wanted& wanted);

// The results of one task in host memory.
struct Results {
  QuantizeTask task;  // without its results
  QuantizedShape shape;
  Wanted wanted;
  ArrayShapes arrays{};
  std::array<std::vector<std::uint8_t>, kArrays> bytes;

  Results() = default;
  // Not written yet.
  Results(const ConstMatrix& in, const QuantizeTask& asked, const Wanted& want = {});

  // The task that writes them.
  QuantizeTask writing();
  // As dequantize reads them: with the scales, or with the packed ones.
  ConstQuantized operand() const;
  ConstQuantized packed_operand() const;

  template <typename T>
  std::span<const T> of(Array array) const {
    const std::vector<std::uint8_t>& from = bytes[static_cast<std::size_t>(array)];
    return {reinterpret_cast<const T*>(from.data()), from.size() / sizeof(T)};
  }
  std::span<const std::uint8_t> codes() const { return of<std::uint8_t>(Array::kCodes); }
  std::span<const float> scales() const { return of<float>(Array::kScales); }
  std::span<const float> outer_scales() const { return of<float>(Array::kOuterScales); }

  unsigned code(std::int64_t row, std::int64_t column) const {
    return (codes()[static_cast<std::size_t>((row * shape.columns + column) / 2)] >> (4 * (column % 2))) & 0xFu;
  }
  float scale(std::int64_t row, std::int64_t block) const {
    return scales()[static_cast<std::size_t>(row * shape.scales_per_row + block)];
  }
  // The dequantized one, of either type.
  float value(std::int64_t row, std::int64_t column) const;
  float amax() const { return of<float>(Array::kAmax)[0]; }
  std::uint32_t clipped() const { return of<std::uint32_t>(Array::kClipped)[0]; }
};

// "", or the first place at which the arrays of `got` differ in a bit from those of `want`, in words. An array that
// only `want` has is not compared; one that only `got` has is a difference.
std::string first_difference(const Results& got, const Results& want);

// The same for [rows, n] numbers of any kind.
std::string first_difference(const char* what, std::span<const float> got, std::span<const float> want,
                             std::int64_t rows = 1);
std::string first_difference(const char* what, std::span<const std::uint16_t> got, std::span<const std::uint16_t> want,
                             std::int64_t rows = 1);

// One task by one backend.
Results quantize(const Backend& backend, const ConstMatrix& in, const QuantizeTask& task, const Wanted& wanted = {});

// The same by all cores, each with rows of its own; for a column task the matrix is read in whole blocks of 128 rows.
Results quantize_by_all_cores(const Backend& backend, const ConstMatrix& in, const QuantizeTask& task,
                              const Wanted& wanted = {});

}  // namespace ufp4::testing
