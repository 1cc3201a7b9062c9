// The product of two INT8 operands with outer scales: what is computed, and the scalar reference.
//
// y = a b^T, where an element of an operand is its integer times the scale of its row and segment. Within a segment s
// of the contraction axis the integers are summed exactly to I_s. Between segments all is FP32, s ascending from
// y = 0: y = y + float(I_s) * (scale_a[s] * scale_b[s]), each of the four operations rounded once to nearest even.
// A segment longer than kInt8Piece is summed in pieces of that many elements, each with the segment's scales, as if it
// were a segment. A piece's sum is at most 2^30 in magnitude, so that INT32 holds it for any operands; one beyond 2^24
// is rounded by its conversion to FP32. A scale that is NaN makes its results NaN, whatever the integers are.
//
// The order leaves nothing to a backend, so that all give the same bits (of a NaN only that it is one).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ufp4 {

inline constexpr std::int64_t kInt8Piece = 65536;

// Dense along the contraction axis.
struct Int8Operand {
  const std::int8_t* values = nullptr;  // [rows, k]
  std::int64_t row_stride = 0;          // elements from one row to the next
  const float* scales = nullptr;        // of row r and segment s at [r * scale_row_stride + s * scale_segment_stride]
  std::int64_t scale_row_stride = 0;
  std::int64_t scale_segment_stride = 0;
};

enum class Int8Result : std::uint8_t {
  kBf16,      // y, rounded once
  kF32,       // y
  kF32Added,  // out + y, one more sum; where there is nothing to contract, out stays as it is
};

// What the offsets of a grouped product divide.
enum class Int8Groups : std::uint8_t {
  kNone,
  // The rows of a, among `groups` matrices b, whose rows follow one another: [groups, n, k].
  kRows,
  // The contraction axis, into `groups` products with results [groups, m, n]. A group has segments of its own, the last
  // one shorter, which are counted through all groups; with one segment a row, one for each group.
  kDepth,
};

// out [m, n] = a [m, k] times the transpose of b [n, k].
struct Int8Product {
  std::int64_t m = 0;
  std::int64_t n = 0;
  std::int64_t k = 0;        // a multiple of 16
  std::int64_t segment = 0;  // elements of the contraction axis with one scale, a multiple of 128; 0: the whole row
  Int8Operand a{};
  Int8Operand b{};
  Int8Result result = Int8Result::kBf16;
  void* out = nullptr;
  std::int64_t out_row_stride = 0;  // in elements; with kDepth, a group's results follow those of the group before

  Int8Groups grouped = Int8Groups::kNone;
  std::int64_t groups = 1;
  // [groups + 1], ascending from 0 to m or k; with kDepth multiples of 16. On a GPU in device memory, where nothing
  // checks them.
  const std::int32_t* offsets = nullptr;
};

// What a piece of the sum is: the segment, or kInt8Piece where that is shorter.
std::int64_t piece_of(const Int8Product& product);

// Segments of a contraction axis of `k` elements.
std::int64_t segments_of(const Int8Product& product, std::int64_t k);

// "int8 product [m, k] x [k, n], segments of 512 -> BF16": for messages.
std::string describe(const Int8Product& product);

// Throws InputError for sides, strides, segments and groups that no product has. Does not read memory.
void check(const Int8Product& product);

// The products without groups that a product is, for offsets in host memory. Also throws InputError for offsets that do
// not fit.
std::vector<Int8Product> groups_of(const Int8Product& product);

// On one thread, element by element.
void int8_product_reference(const Int8Product& product);

}  // namespace ufp4
