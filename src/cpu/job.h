// One task as the kernels want it: everything that does not depend on the position in the matrix, computed once.
//
// The words of this folder:
//   lane     one of the 32-bit places of a vector register. Each lane works on a unit of its own, so that arithmetic
//            runs between whole vectors and never across lanes.
//   unit     the least number of elements that is whole in blocks and in transforms: what a lane works on.
//   run      16 neighbouring elements of each lane: what a kernel holds in registers at a time.
//   group    as many units as a vector has lanes. With random bits: 8 neighbouring elements, which one Philox call
//            serves.
//   span     the groups that one call of a kernel works on.
//   stage    a small matrix that a column kernel writes and that is then transposed into the result, so that whole
//            cache lines are written there.
//   tile     the columns of the matrix that a stage is for.
//   window   the powers of two that a format allows as scales (BlockFormat::window).
//   factor   of a transform: 1 / sqrt(n). A power of two commutes with roundings, so it can be applied late, to the
//            scale; any other is applied early, to the values.
//   steps    values as multiples of the first level above zero.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "cpu/product.h"
#include "numerics/int8_product.h"
#include "ufp4/format.h"
#include "ufp4/quantize.h"

namespace ufp4::cpu {

inline constexpr int kRun = 16;

// The levels as at most three stretches of equal distance, in steps: from `from[s]` on, levels are the multiples of
// `step[s]`, and the index of a level is its multiple plus `offset[s]`. Rounding to a level is then rounding to an
// integer. Offsets are even: a tie that goes to the even multiple goes to the even index too.
struct Lattice {
  int stretches = 0;
  std::array<float, 3> from{};  // infinite for stretches that are not there
  std::array<float, 3> step{};
  std::array<int, 3> offset{};
  // Derived from these: a number whose addition rounds to a multiple of the step and adds the offset (see kRounder),
  // and for stochastic rounding 2^16 / step and 2^16 * offset.
  std::array<float, 3> rounder{};
  std::array<float, 3> rate{};
  std::array<std::uint32_t, 3> offset16{};
};

// Empty if the levels do not fit this shape or the steps are no powers of two.
std::optional<Lattice> find_lattice(const ElementFormat& element);

// The values of the codes 0..15.
std::array<float, 16> all_code_values(const ElementFormat& element);

// What a rule takes from the magnitude that a second-level scale follows from: computed once for each such scale.
inline constexpr std::size_t kOuterTerms = 2;
using OuterTerms = std::array<float, kOuterTerms>;

struct Job {
  const BlockFormat* format = nullptr;
  // Instead of quantizing, what each block adds to the magnitude of a second-level scale (reference::outer_magnitude)
  // is written as its scale.
  bool measure = false;

  // How the scale is chosen. Under other rules than kAmax values may lie beyond the last level: they are bounded.
  ScaleRule rule = ScaleRule::kAmax;
  bool bounded = false;
  float reciprocal = 0;      // 1 / L
  int largest_exponent = 0;  // of L
  float least_divisor = 0;   // of the exponent rules
  float tau = 0;             // of the window of powers of two
  int least_power = 0;       // the window
  int largest_power = 0;
  float base_divisor = 0;    // of the best of two: largest magnitude / base_divisor is brought to E4M3 ..
  float base_factor = 1;     // .. times this
  float limit = 0;           // L in steps
  float negative_limit = 0;  // the same for negative values

  // How codes are made.
  CodeKind code_kind = CodeKind::kSignMagnitude;
  bool uniform = true;  // one stretch
  bool stochastic = false;
  float largest = 0;       // L
  float inverse_unit = 0;  // 1 / first level above zero
  Lattice lattice;
  std::array<float, 16> code_values{};

  // The second way, for the rule that chooses between two: the same job with its element format.
  std::shared_ptr<const Job> alternative;

  // Sizes, in elements.
  int block = 0;
  int transform = 0;
  int unit = 0;
  DType input = DType::kF32;
  bool column = false;

  // The transform. One of the two factors is 1.
  float late_factor = 1;                                       // 0.25 for transform and block 16
  float early_factor = 1;                                      // multiplies right after the butterflies
  alignas(64) std::array<std::uint32_t, 128> element_signs{};  // 0 or the sign bit
  alignas(64) std::array<std::uint32_t, 128> word_signs{};  // for words of two 16-bit elements; else as element_signs

  // Random bits.
  std::array<std::array<std::uint32_t, 2>, 10> keys{};
  Place place;

  QuantizedShape shape;
  Quantized out;
};

// Whether the kernels know the format.
bool has_kernels(const BlockFormat& format);

OuterTerms outer_terms(const Job& job, float amax);

// Empty if the kernels do not know the format or one of the results; the reference then does the work.
std::optional<Job> make_job(const ConstMatrix& in, const QuantizeTask& task);

// What one call of a kernel works on.
struct Span {
  const std::uint8_t* source = nullptr;  // first element of the first lane
  std::size_t stride = 0;                // bytes from unit to unit (rows) or from matrix row to matrix row (columns)
  std::size_t groups = 0;
  std::uint32_t row = 0;     // of the operand, with offset: of the first lane
  std::uint32_t column = 0;  // likewise
  // Rows: codes and scales as they lie in the result. Columns: those of the stage, in which each row has the words of
  // eight codes (or the scales) of neighbouring columns; `stage_stride` entries from row to row.
  std::uint32_t* codes = nullptr;
  float* scales = nullptr;
  std::uint32_t* selectors = nullptr;  // for formats that have them: a word a block, in the order of the scales
  std::size_t stage_stride = 0;
  // The OuterTerms of a group: the first term of every lane, then the second; `outer_stride` floats from group to
  // group.
  const float* outer = nullptr;
  std::size_t outer_stride = 0;
};

// Blocks that lie one after another, to be expanded to level * scale * second-level scale.
struct Expansion {
  // What selectors say. kTable: which code values the next 16 elements have; kExponent: the power of two that four
  // elements have beside their scale.
  enum class Selectors : std::uint8_t { kNone, kTable, kExponent };

  Selectors meaning = Selectors::kNone;
  std::array<std::array<float, 16>, 2> code_values{};  // of the format's elements and their alternative
  int block = 0;
  const std::uint8_t* codes = nullptr;
  const float* scales = nullptr;
  const std::uint8_t* selectors = nullptr;
  float outer_scale = 1;
  float zero = -0.0F;  // added to level * scale: 0 makes 0 of -0, -0 changes nothing
  std::size_t blocks = 0;
  void* out = nullptr;
  DType out_dtype = DType::kBF16;
};

// What does not depend on the blocks at hand.
Expansion expansion_of(const BlockFormat& format, int block);

// The kernels of one instruction set.
struct Kernels {
  const char* name = nullptr;
  std::int64_t target = 0;  // Highway's bit
  std::size_t lanes = 0;    // of 32 bits

  using SpanFunction = void (*)(const Job&, const Span&);
  SpanFunction (*find_span)(const Job&) = nullptr;
  // Writes `words` x `columns` entries, `source_stride` apart, transposed: `target_stride` bytes from column to column.
  // `past_caches` says that nobody will read the result soon.
  void (*transpose)(const std::uint32_t* source, std::size_t source_stride, std::size_t words, std::size_t columns,
                    std::uint8_t* target, std::size_t target_stride, bool past_caches) = nullptr;
  void (*dequantize)(const Expansion& expansion) = nullptr;
  // As ProductKernel::multiply. The second one needs AVX512_BF16 too, and is null where that is not compiled.
  void (*multiply)(const Product& product, const ProductTile& tile) = nullptr;
  void (*multiply_pairs)(const Product& product, const ProductTile& tile) = nullptr;
  // As Int8ProductKernel::multiply. The second one needs VNNI too, and is null where that is not compiled.
  void (*multiply_int8)(const Int8Product& product, const ProductTile& tile) = nullptr;
  void (*multiply_int8_quads)(const Int8Product& product, const ProductTile& tile) = nullptr;
};

// Of every target that was compiled, the widest first.
std::span<const Kernels> all_kernels();

// Whether this machine can run them.
bool is_supported(const Kernels& kernels);

// Runs all tasks on these rows of one matrix with these kernels.
void run_quantize(const Kernels& kernels, const ConstMatrix& in, std::span<const QuantizeTask> tasks, RowRange rows);

// As Backend::raise_outer_amax.
void run_outer_amax(const Kernels& kernels, const ConstMatrix& in, const OperandSpec& spec, const Place& place,
                    RowRange rows, float* amax);

}  // namespace ufp4::cpu
