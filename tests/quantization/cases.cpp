#include "quantization/cases.h"

#include <cstdio>

#include "ufp4/format.h"

namespace ufp4::testing {
namespace {

template <typename T, std::size_t kCount>
T one_of(const std::array<T, kCount>& list, std::mt19937& random) {
  return list[random() % kCount];
}

std::string words_of(const Place& place) {
  std::string text(name_of(place.axis));
  if (place.row_numbers != nullptr) text += " with row numbers";
  return text + " offsets " + std::to_string(place.row_offset) + ", " + std::to_string(place.column_offset);
}

}  // namespace

bool has_block(const BlockFormat& format, int block) { return format.selector_block == 0 || format.block == block; }

QuantizeTask task_of(const BlockFormat& format, Rounding rounding, int hadamard, Axis axis, int block) {
  QuantizeTask task;
  task.spec.format = &format;
  task.spec.block = block;
  task.spec.rounding = rounding;
  task.spec.hadamard = make_hadamard(hadamard, 99);
  task.place = {.axis = axis, .seed = 5, .step = 6, .stream = 7};
  return task;
}

QuantizeTask task_of(std::string_view format, Rounding rounding, int hadamard, Axis axis, int block) {
  return task_of(find_format(format), rounding, hadamard, axis, block);
}

QuantizeTask random_task(std::mt19937& random, std::span<const BlockFormat> among) {
  QuantizeTask task;
  OperandSpec& spec = task.spec;
  spec.format = &among[random() % among.size()];
  const OuterScale outer = one_of(kOuterScales, random);
  if (spec.format->outer_scales.has(outer)) spec.outer.each = outer;
  if (spec.format->has_window()) spec.options.tau = one_of(std::array{0.0F, 1.0F, 1.125F}, random);
  const int block = one_of(kBlockSizes, random);
  if (has_block(*spec.format, block)) spec.block = block;
  spec.rounding = one_of(kRoundings, random);
  const int hadamard = one_of(std::array{0, 16, 32, 64, 128}, random);
  spec.hadamard = random() % 2 == 0 ? make_hadamard(hadamard, random()) : Hadamard{.size = hadamard};
  task.place.axis = one_of(kAxes, random);
  task.place.seed = random() * 0x100000001u;
  task.place.step = static_cast<std::uint32_t>(random());
  task.place.stream = static_cast<std::uint32_t>(random());
  task.place.row_offset = static_cast<std::uint32_t>(random() % 1000);
  task.place.column_offset = static_cast<std::uint32_t>(random() % 1000);
  return task;
}

QuantizeTask random_task(std::mt19937& random) { return random_task(random, formats()); }

DType random_dtype(std::mt19937& random) { return one_of(kTypes, random); }

std::string describe(const ConstMatrix& in, const QuantizeTask& task) {
  const OperandSpec& spec = task.spec;
  char tau[32];
  std::snprintf(tau, sizeof tau, "%g", static_cast<double>(spec.options.tau));
  return std::string(spec.format->name) + " outer " + std::string(name_of(spec.outer_each())) + " tau " + tau +
         " block " + std::to_string(spec.block_size()) + " hadamard " + std::to_string(spec.hadamard.size) + " " +
         std::string(name_of(spec.rounding)) + " " + words_of(task.place) + " of " + std::string(name_of(in.dtype)) +
         " [" + std::to_string(in.rows) + ", " + std::to_string(in.columns) + "] stride " +
         std::to_string(in.row_stride);
}

}  // namespace ufp4::testing
