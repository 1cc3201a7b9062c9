// One operand of a matrix product: how it is quantized (OperandSpec), and where it stands in a training run (Place).
// Recipes, operators, kernels and the analysis all hold these two values.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

#include "ufp4/outer_scale.h"

namespace ufp4 {

struct BlockFormat;  // ufp4/format.h

enum class Rounding : std::uint8_t { kNearest, kStochastic };

// "rtne", "sr".
constexpr std::string_view name_of(Rounding rounding) { return rounding == Rounding::kNearest ? "rtne" : "sr"; }

// The one of that name. Throws InputError that lists the names.
Rounding find_rounding(std::string_view name);

// Along which axis of the stored matrix the blocks run. The operand of kColumn is the transposed matrix.
enum class Axis : std::uint8_t { kRow, kColumn };

// "row", "column".
constexpr std::string_view name_of(Axis axis) { return axis == Axis::kRow ? "row" : "column"; }

// The one of that name. Throws InputError that lists the names.
Axis find_axis(std::string_view name);

// Signs of a transform: bit i (of word i / 32) set means that element i of each run is negated.
using Signs = std::array<std::uint32_t, 4>;

// The random Hadamard transform y = x S H_n / sqrt(n) on each run of n values along the blocks.
struct Hadamard {
  int size = 0;                  // n: 0 (no transform), 16, 32, 64 or 128
  std::optional<Signs> signs{};  // S; not given: the signs that follow from the seed of the place
  bool round_to_bf16 = false;    // the result is rounded to BF16, as TransformerEngine does

  bool operator==(const Hadamard&) const = default;
};

// The signs that a seed gives to a transform of size n: Philox with key `seed`, counter (0, 0, 0, 0xFFFFFFFF); the low
// n bits of its 128. Throws InputError for a size that there is not.
Signs hadamard_signs(int size, std::uint64_t seed);

// The transform of size n with these signs; none for 0.
Hadamard make_hadamard(int size, std::uint64_t seed);

// Where the amax that a second-level scale follows from is known from.
enum class AmaxSource : std::uint8_t {
  kExact,    // the operand itself: a pass over it before the one that quantizes it
  kDelayed,  // what it held in the step before, with room; an operand beyond that is quantized again, exactly
};

// The second-level scale of a format that has one.
struct OuterSpec {
  OuterScale each = OuterScale::kOwn;    // what shares one
  AmaxSource amax = AmaxSource::kExact;  // kDelayed: for formats with a window, and one scale for the tensor

  bool operator==(const OuterSpec&) const = default;
};

// What single formats let a caller choose.
struct FormatOptions {
  // Formats with a window: how far the extreme of a block may lie beyond its scale's range before the next power of two
  // is taken, 9/8 or 1; 0: 9/8 for nearest, 1 for stochastic rounding.
  float tau = 0;

  bool operator==(const FormatOptions&) const = default;
};

// How one operand is quantized.
struct OperandSpec {
  const BlockFormat* format = nullptr;  // null: it stays in BF16
  int block = 0;                        // 0: the format's own; else one of kBlockSizes
  Rounding rounding = Rounding::kNearest;
  Hadamard hadamard{};
  OuterSpec outer{};
  FormatOptions options{};

  bool quantized() const { return format != nullptr; }
  int block_size() const;
  // What shares a second-level scale; kTensor for an operand in BF16.
  OuterScale outer_each() const;

  bool operator==(const OperandSpec&) const = default;
};

// Throws InputError that names the format for parts of a quantized spec that do not fit together: a block or a
// transform that there is not, a second-level scale or an option that the format does not know.
void validate(const OperandSpec& spec);

// Where an operand stands. Element (r, c) of the operand draws its random bits from the Philox counter
// ((c + column_offset) / 8, number of r, step, stream): a shard with its offsets gets the bits of the whole operand.
// Rows and columns are those of the operand: for Axis::kColumn a row is a column of the stored matrix.
struct Place {
  Axis axis = Axis::kRow;
  std::uint64_t seed = 0;  // of random bits, and of the signs of a transform that brings none of its own
  std::uint32_t step = 0;
  std::uint32_t stream = 0;
  std::uint32_t row_offset = 0;
  std::uint32_t column_offset = 0;
  // The numbers of the operand's rows, one each, in place of row_offset + r: for rows that were gathered. Null: none.
  const std::uint32_t* row_numbers = nullptr;

  std::uint32_t row_number(std::uint32_t row) const {
    return row_numbers != nullptr ? row_numbers[row] : row + row_offset;
  }
};

// The signs of the spec's transform at that place.
Signs signs_of(const OperandSpec& spec, const Place& place);

}  // namespace ufp4
