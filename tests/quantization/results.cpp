#include "quantization/results.h"

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstring>
#include <mutex>

#include "quantization/matrix.h"
#include "ufp4/format.h"

namespace ufp4::testing {
namespace {

constexpr std::uint8_t kPoison = 0xEE;

// How the elements of an array are told in words.
enum class Kind : std::uint8_t { kFloat, kBf16, kCodes, kInteger };

struct Numbers {
  const char* name;
  Kind kind;
  std::size_t width;
  std::int64_t per_row;
};

std::string words_of(Kind kind, std::uint32_t bits) {
  char text[48];
  switch (kind) {
    case Kind::kFloat:
      std::snprintf(text, sizeof text, "%.9g (0x%08X)", static_cast<double>(std::bit_cast<float>(bits)), bits);
      break;
    case Kind::kBf16:
      std::snprintf(text, sizeof text, "%.9g (0x%04X)",
                    static_cast<double>(bf16_to_float(static_cast<std::uint16_t>(bits))), bits);
      break;
    case Kind::kCodes:
    case Kind::kInteger: std::snprintf(text, sizeof text, "%u (0x%02X)", bits, bits); break;
  }
  return text;
}

std::string first_difference(const Numbers& numbers, std::span<const std::uint8_t> got,
                             std::span<const std::uint8_t> want) {
  const auto differ = std::mismatch(got.begin(), got.end(), want.begin(), want.end());
  if (differ.first == got.end() && differ.second == want.end()) return "";
  if (got.size() != want.size()) {
    return std::string(numbers.name) + " have " + std::to_string(got.size()) + " bytes, expected " +
           std::to_string(want.size());
  }
  const auto at = static_cast<std::size_t>(differ.first - got.begin()) / numbers.width;
  std::uint32_t a = 0;
  std::uint32_t b = 0;
  std::memcpy(&a, got.data() + at * numbers.width, numbers.width);
  std::memcpy(&b, want.data() + at * numbers.width, numbers.width);
  const auto per_row = static_cast<std::size_t>(std::max<std::int64_t>(1, numbers.per_row));
  const std::size_t row = at / per_row;
  std::size_t column = at % per_row;
  if (numbers.kind == Kind::kCodes) {  // two a byte: the first of them that differs
    const bool high = (a & 0xFu) == (b & 0xFu);
    column = 2 * column + (high ? 1 : 0);
    a = a >> (high ? 4 : 0) & 0xFu;
    b = b >> (high ? 4 : 0) & 0xFu;
  }
  return std::string(numbers.name) + "[" + std::to_string(row) + ", " + std::to_string(column) + "] is " +
         words_of(numbers.kind, a) + ", expected " + words_of(numbers.kind, b);
}

Kind kind_of(Array array, const Wanted& wanted) {
  switch (array) {
    case Array::kScales:
    case Array::kOuterScales:
    case Array::kAmax: return Kind::kFloat;
    case Array::kValues: return wanted.values == DType::kBF16 ? Kind::kBf16 : Kind::kFloat;
    case Array::kCodes: return Kind::kCodes;
    default: return Kind::kInteger;
  }
}

template <typename T>
std::string difference_of(const char* what, Kind kind, std::span<const T> got, std::span<const T> want,
                          std::int64_t rows) {
  const auto bytes = [](std::span<const T> values) {
    return std::span(reinterpret_cast<const std::uint8_t*>(values.data()), values.size_bytes());
  };
  const std::int64_t per_row = std::ssize(want) / std::max<std::int64_t>(1, rows);
  return first_difference(Numbers{what, kind, sizeof(T), per_row}, bytes(got), bytes(want));
}

template <typename T>
T* as(const std::array<void*, kArrays>& addresses, const ArrayShapes& shapes, Array array) {
  const auto i = static_cast<std::size_t>(array);
  return shapes[i].rows == 0 ? nullptr : static_cast<T*>(addresses[i]);
}

}  // namespace

ArrayShapes array_shapes(std::int64_t rows, std::int64_t columns, const QuantizeTask& task, const Wanted& wanted) {
  const QuantizedShape shape = quantized_shape(rows, columns, task.spec, task.place.axis);
  const OuterShape outer = outer_shape(shape, task.spec.outer_each());
  const BlockFormat& format = *task.spec.format;
  const bool empty = shape.rows == 0 || shape.columns == 0;
  const bool one = task.spec.outer_each() == OuterScale::kTensor;  // which is written for an empty matrix too
  ArrayShapes all{};
  const auto add = [&](Array array, bool want, const ArrayShape& of) {
    all[static_cast<std::size_t>(array)] = of;
    if (!want) all[static_cast<std::size_t>(array)].rows = 0;
  };
  const std::int64_t parts = format.selector_block == 0 ? 0 : shape.columns / format.selector_block;
  add(Array::kScales, wanted.scales, {"scales", shape.rows, shape.scales_per_row, sizeof(float), kPoison});
  add(Array::kCodes, wanted.codes, {"codes", shape.rows, shape.codes_per_row(), 1, kPoison});
  add(Array::kValues, wanted.values.has_value(),
      {"values", shape.rows, shape.columns, size_of(wanted.values.value_or(DType::kF32)), kPoison});
  add(Array::kSelectors, wanted.selectors && parts != 0, {"selectors", shape.rows, parts, 1, kPoison});
  add(Array::kPackedScales, wanted.packed_scales,
      {"packed scales", shape.rows, shape.scales_per_row * format.packed_scale_bytes(), 1, kPoison});
  add(Array::kOuterScales, wanted.outer_scales && (one || !empty),
      {"outer scales", outer.rows, outer.columns, sizeof(float), kPoison});
  add(Array::kE4m3, wanted.e4m3 && format.exact == ExactValue::kE4m3,
      {"E4M3 values", shape.rows, shape.columns, 1, kPoison});
  add(Array::kInt8, wanted.int8 && format.exact == ExactValue::kInt8,
      {"INT8 values", shape.rows, shape.columns, 1, kPoison});
  const bool window = wanted.window && format.has_window();
  add(Array::kAmax, window, {"amax", 1, 1, sizeof(float), 0});
  add(Array::kClipped, window, {"clipped blocks", 1, 1, sizeof(std::uint32_t), 0});
  return all;
}

Quantized results_at(const std::array<void*, kArrays>& addresses, const ArrayShapes& shapes, const Wanted& wanted) {
  Quantized out;
  out.codes = as<std::uint8_t>(addresses, shapes, Array::kCodes);
  out.scales = as<float>(addresses, shapes, Array::kScales);
  out.dequantized = as<void>(addresses, shapes, Array::kValues);
  out.dequantized_dtype = wanted.values.value_or(DType::kBF16);
  out.selectors = as<std::uint8_t>(addresses, shapes, Array::kSelectors);
  out.packed_scales = as<std::uint8_t>(addresses, shapes, Array::kPackedScales);
  out.outer_scales = as<float>(addresses, shapes, Array::kOuterScales);
  out.e4m3 = as<std::uint8_t>(addresses, shapes, Array::kE4m3);
  out.int8 = as<std::int8_t>(addresses, shapes, Array::kInt8);
  out.amax = as<float>(addresses, shapes, Array::kAmax);
  out.clipped = as<std::uint32_t>(addresses, shapes, Array::kClipped);
  return out;
}

Results::Results(const ConstMatrix& in, const QuantizeTask& asked, const Wanted& want)
    : task(asked),
      shape(quantized_shape(in.rows, in.columns, asked.spec, asked.place.axis)),
      wanted(want),
      arrays(array_shapes(in.rows, in.columns, asked, want)) {
  task.out = {};
  for (std::size_t i = 0; i < kArrays; ++i) bytes[i].assign(arrays[i].bytes(), arrays[i].fill);
}

QuantizeTask Results::writing() {
  std::array<void*, kArrays> addresses{};
  for (std::size_t i = 0; i < kArrays; ++i) addresses[i] = bytes[i].data();
  QuantizeTask result = task;
  result.out = results_at(addresses, arrays, wanted);
  return result;
}

ConstQuantized Results::operand() const {
  ConstQuantized in{.format = task.spec.format, .block = task.spec.block, .rows = shape.rows, .columns = shape.columns};
  in.codes = codes().data();
  in.scales = scales().data();
  in.selectors = of<std::uint8_t>(Array::kSelectors).data();
  const bool apart = task.spec.format->outer_stays_apart(task.spec.outer_each());  // others are in the scales
  in.outer = apart ? task.spec.outer_each() : OuterScale::kTensor;
  in.outer_scales = apart && !outer_scales().empty() ? outer_scales().data() : nullptr;
  return in;
}

ConstQuantized Results::packed_operand() const {
  ConstQuantized in = operand();
  in.scales = nullptr;
  in.selectors = nullptr;
  in.packed_scales = of<std::uint8_t>(Array::kPackedScales).data();
  in.outer = task.spec.outer_each();
  in.outer_scales = outer_scales().data();
  return in;
}

float Results::value(std::int64_t row, std::int64_t column) const {
  const auto at = static_cast<std::size_t>(row * shape.columns + column);
  return wanted.values == DType::kBF16 ? bf16_to_float(of<std::uint16_t>(Array::kValues)[at])
                                       : of<float>(Array::kValues)[at];
}

std::string first_difference(const Results& got, const Results& want) {
  for (std::size_t i = 0; i < kArrays; ++i) {
    const ArrayShape& array = got.arrays[i];
    if (array.rows == 0) continue;
    const Kind kind = kind_of(static_cast<Array>(i), got.wanted);
    std::string text =
        first_difference(Numbers{array.name, kind, array.width, array.per_row}, got.bytes[i], want.bytes[i]);
    if (!text.empty()) return text;
  }
  return "";
}

std::string first_difference(const char* what, std::span<const float> got, std::span<const float> want,
                             std::int64_t rows) {
  return difference_of(what, Kind::kFloat, got, want, rows);
}

std::string first_difference(const char* what, std::span<const std::uint16_t> got, std::span<const std::uint16_t> want,
                             std::int64_t rows) {
  return difference_of(what, Kind::kBf16, got, want, rows);
}

Results quantize(const Backend& backend, const ConstMatrix& in, const QuantizeTask& task, const Wanted& wanted) {
  Results results(in, task, wanted);
  const QuantizeTask writing = results.writing();
  backend.quantize(in, {&writing, 1});
  return results;
}

Results quantize_by_all_cores(const Backend& backend, const ConstMatrix& in, const QuantizeTask& task,
                              const Wanted& wanted) {
  Results results(in, task, wanted);
  QuantizeTask writing = results.writing();
  std::vector<float> amax;
  if (writing.outer_amax_unknown()) {
    const OuterShape outer = outer_shape(results.shape, task.spec.outer_each());
    amax.resize(static_cast<std::size_t>(outer.rows * outer.columns));
    backend.raise_outer_amax(in, task.spec, task.place, {0, in.rows}, amax.data());
    writing.outer_amax = amax.data();
  }
  std::mutex mutex;  // of what the slabs raise
  in_slabs(in.rows, [&](std::int64_t first, std::int64_t last) {
    QuantizeTask slab = writing;
    float largest = 0;
    std::uint32_t clipped = 0;
    if (slab.out.amax != nullptr) slab.out.amax = &largest;
    if (slab.out.clipped != nullptr) slab.out.clipped = &clipped;
    backend.quantize_rows(in, {&slab, 1}, {first, last});
    const std::lock_guard lock(mutex);
    if (writing.out.amax != nullptr) *writing.out.amax = std::max(*writing.out.amax, largest);
    if (writing.out.clipped != nullptr) *writing.out.clipped += clipped;
  });
  return results;
}

}  // namespace ufp4::testing
