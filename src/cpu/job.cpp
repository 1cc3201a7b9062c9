#include "cpu/job.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "numerics/hadamard.h"
#include "numerics/philox.h"
#include "numerics/scale_rules.h"

namespace ufp4::cpu {
namespace {

bool is_power_of_two(float x) {
  int exponent = 0;
  return x > 0 && std::frexp(x, &exponent) == 0.5F;
}

// What follows from the levels and their codes.
void set_element(Job& job, const ElementFormat& element) {
  job.lattice = *find_lattice(element);
  job.uniform = job.lattice.stretches == 1;
  job.reciprocal = 1 / element.largest();
  job.largest_exponent = std::ilogb(element.largest());
  job.limit = element.largest() / element.levels[1];
  job.negative_limit = job.limit + (element.code_kind == CodeKind::kFullTwosComplement ? 1 : 0);
  job.code_kind = element.code_kind;
  job.largest = element.largest();
  job.inverse_unit = 1 / element.levels[1];
  job.code_values = all_code_values(element);
  job.base_divisor = element.largest();
}

}  // namespace

std::optional<Lattice> find_lattice(const ElementFormat& element) {
  Lattice lattice;
  const float unit = element.levels[1];
  if (!is_power_of_two(unit)) return std::nullopt;
  for (int i = 0; i + 1 < element.level_count; ++i) {
    const float level = element.levels[static_cast<std::size_t>(i)] / unit;
    const float step = element.levels[static_cast<std::size_t>(i) + 1] / unit - level;
    if (lattice.stretches > 0 && step == lattice.step[static_cast<std::size_t>(lattice.stretches) - 1]) continue;
    const float multiple = level / step;
    const int offset = i - static_cast<int>(multiple);
    if (lattice.stretches == 3 || !is_power_of_two(step) || multiple != std::floor(multiple) || offset % 2 != 0) {
      return std::nullopt;
    }
    const auto s = static_cast<std::size_t>(lattice.stretches++);
    lattice.from[s] = level;
    lattice.step[s] = step;
    lattice.offset[s] = offset;
  }
  for (std::size_t s = 0; s < 3; ++s) {
    if (static_cast<int>(s) >= lattice.stretches) {
      lattice.from[s] = std::numeric_limits<float>::infinity();
      continue;
    }
    lattice.rounder[s] = (0x1.8p23F + static_cast<float>(lattice.offset[s])) * lattice.step[s];
    lattice.rate[s] = 0x1p16F / lattice.step[s];
    lattice.offset16[s] = static_cast<std::uint32_t>(lattice.offset[s]) << 16;
  }
  return lattice;
}

std::array<float, 16> all_code_values(const ElementFormat& element) {
  std::array<float, 16> values{};
  for (unsigned code = 0; code < 16; ++code) values[code] = code_value(element, code);
  return values;
}

bool has_kernels(const BlockFormat& format) {
  const auto known = [](const ElementFormat& element) {
    const std::optional<Lattice> lattice = find_lattice(element);
    if (!lattice) return false;
    return element.code_kind != CodeKind::kFullTwosComplement || (lattice->stretches == 1 && element.levels[1] == 1);
  };
  return known(format.element) && (format.rule != ScaleRule::kBestOfTwo || known(format.alternative.element));
}

Expansion expansion_of(const BlockFormat& format, int block) {
  Expansion expansion;
  expansion.block = block;
  expansion.code_values[0] = all_code_values(format.element);
  if (format.scale == ScaleEncoding::kInt8) expansion.zero = 0;
  if (format.selector_block == 0) return expansion;
  if (format.rule == ScaleRule::kTwoLevelExponent) {
    expansion.meaning = Expansion::Selectors::kExponent;
  } else {
    expansion.meaning = Expansion::Selectors::kTable;
    expansion.code_values[1] = all_code_values(format.alternative.element);
  }
  return expansion;
}

OuterTerms outer_terms(const Job& job, float amax) {
  constexpr float kFloatMax = std::numeric_limits<float>::max();
  const float divisor = job.format->outer_divisor;
  const float ratio = std::min(divisor / amax, kFloatMax);
  switch (job.rule) {
    case ScaleRule::kTensorE4m3: return {ratio * job.reciprocal, 1 / ratio};
    case ScaleRule::kTensorE4m3Int: return {ratio, 1 / ratio};
    case ScaleRule::kBestOfTwo: return {ratio, amax};
    case ScaleRule::kIntegerMultiple: {
      const float magnitude = std::fabs(amax);
      return {magnitude < job.format->outer_least ? 0 : divisor / magnitude, reference::outer_scale(*job.format, amax)};
    }
    case ScaleRule::kPow2Window: {
      const float outer = reference::outer_scale(*job.format, amax);
      return {outer == 0 ? 0 : 1 / outer, outer};
    }
    default: return {};
  }
}

std::optional<Job> make_job(const ConstMatrix& in, const QuantizeTask& task) {
  const OperandSpec& spec = task.spec;
  const Place& place = task.place;
  const ElementFormat& element = spec.format->element;
  if (!has_kernels(*spec.format) || spec.hadamard.round_to_bf16) return std::nullopt;
  // What a GPU's FP8 product reads the kernels do not write.
  if (task.out.e4m3 != nullptr || task.out.amax != nullptr || task.out.clipped != nullptr) return std::nullopt;
  // Lanes of a column task are rows that follow one another.
  if (place.row_numbers != nullptr && place.axis == Axis::kColumn) return std::nullopt;

  Job job;
  job.format = spec.format;
  job.rule = spec.format->rule;
  job.bounded = job.rule != ScaleRule::kAmax;
  job.least_divisor = job.rule == ScaleRule::kExponentFloor ? 0x1p-126F : 0;
  job.tau = reference::tau_of(spec);
  job.least_power = spec.format->window.least;
  job.largest_power = spec.format->window.largest;
  job.stochastic = spec.rounding == Rounding::kStochastic;
  set_element(job, element);

  job.block = spec.block_size();
  job.transform = spec.hadamard.size;
  job.unit = std::max(job.block, job.transform);
  job.input = in.dtype;
  job.column = place.axis == Axis::kColumn;
  if (job.transform != 0) {
    (job.unit == kRun ? job.late_factor : job.early_factor) = hadamard_scale(job.transform);
    const Signs signs = signs_of(spec, place);
    for (std::size_t i = 0; i < 128; ++i) {
      const std::size_t bit = i % static_cast<std::size_t>(job.transform);
      job.element_signs[i] = ((signs[bit / 32] >> (bit % 32)) & 1u) << 31;
    }
  }
  job.word_signs = job.element_signs;
  if (size_of(in.dtype) == 2) {
    for (std::size_t i = 0; i < 64; ++i) {
      job.word_signs[i] = job.element_signs[2 * i] >> 16 | job.element_signs[2 * i + 1];
    }
  }

  job.place = place;
  philox::Key key = philox::make_key(place.seed);
  for (auto& round_key : job.keys) {
    round_key = key;
    key[0] += philox::kWeyl0;
    key[1] += philox::kWeyl1;
  }
  job.shape = quantized_shape(in.rows, in.columns, spec, place.axis);
  job.out = task.out;
  if (job.rule == ScaleRule::kBestOfTwo) {
    const Alternative& other = spec.format->alternative;
    Job second = job;
    set_element(second, other.element);
    // Scaling the same elements to a lower level enlarges the scale; another grid has its own largest level.
    if (other.element.name == element.name) second.base_factor = element.largest() / other.largest;
    job.alternative = std::make_shared<const Job>(std::move(second));
  }
  return job;
}

}  // namespace ufp4::cpu
