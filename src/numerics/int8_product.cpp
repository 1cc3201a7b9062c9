#include "numerics/int8_product.h"

#include <algorithm>
#include <vector>

#include "ufp4/dtype.h"
#include "ufp4/error.h"

namespace ufp4 {
namespace {

constexpr std::int64_t kBlock = 16;                  // what operands are padded to
constexpr std::int64_t kSegmentStep = 128;           // of the lengths of segments
constexpr std::int64_t kMaxSide = INT32_MAX - 1024;  // a tile further is still an INT32

std::string text(std::int64_t n) { return std::to_string(n); }

void require(bool holds, const Int8Product& product, const std::string& what) {
  if (!holds) throw InputError(describe(product) + ": " + what);
}

void check_operand(const Int8Product& p, const char* name, const Int8Operand& operand, std::int64_t rows) {
  if (rows == 0 || p.k == 0) return;
  const std::string of = std::string("operand ") + name;
  require(operand.values != nullptr && operand.scales != nullptr, p, of + " has no memory");
  require(rows == 1 || operand.row_stride >= p.k, p,
          of + " has rows " + text(operand.row_stride) + " elements apart, expected at least " + text(p.k));
  require(operand.scale_row_stride >= 0 && operand.scale_segment_stride >= 0, p,
          of + " has a negative stride of scales");
}

std::int64_t element_size(const Int8Product& p) { return p.result == Int8Result::kBf16 ? 2 : 4; }

float sum_of(const Int8Product& p, std::int64_t a_row, std::int64_t b_row) {
  const std::int8_t* a = p.a.values + a_row * p.a.row_stride;
  const std::int8_t* b = p.b.values + b_row * p.b.row_stride;
  const float* a_scales = p.a.scales + a_row * p.a.scale_row_stride;
  const float* b_scales = p.b.scales + b_row * p.b.scale_row_stride;
  const std::int64_t piece = piece_of(p);
  float y = 0;
  for (std::int64_t begin = 0; begin < p.k; begin += piece) {
    const std::int64_t end = std::min(p.k, begin + piece);
    std::int32_t sum = 0;
    for (std::int64_t i = begin; i < end; ++i) sum += std::int32_t{a[i]} * std::int32_t{b[i]};
    const std::int64_t segment = p.segment == 0 ? 0 : begin / p.segment;
    const float scale = a_scales[segment * p.a.scale_segment_stride] * b_scales[segment * p.b.scale_segment_stride];
    const float term = static_cast<float>(sum) * scale;
    y = y + term;
  }
  return y;
}

void store(const Int8Product& p, std::int64_t index, float y) {
  switch (p.result) {
    case Int8Result::kBf16: static_cast<std::uint16_t*>(p.out)[index] = float_to_bf16(y); return;
    case Int8Result::kF32: static_cast<float*>(p.out)[index] = y; return;
    case Int8Result::kF32Added: static_cast<float*>(p.out)[index] += y; return;
  }
}

void multiply(const Int8Product& p) {
  if (p.k == 0 && p.result == Int8Result::kF32Added) return;
  for (std::int64_t row = 0; row < p.m; ++row) {
    for (std::int64_t column = 0; column < p.n; ++column) {
      store(p, row * p.out_row_stride + column, sum_of(p, row, column));
    }
  }
}

void check_offsets(const Int8Product& p) {
  const bool rows = p.grouped == Int8Groups::kRows;
  const std::int64_t all = rows ? p.m : p.k;
  require(
      p.offsets[0] == 0 && p.offsets[p.groups] == all, p,
      "offsets go from " + text(p.offsets[0]) + " to " + text(p.offsets[p.groups]) + ", expected 0 to " + text(all));
  for (std::int64_t g = 0; g < p.groups; ++g) {
    const std::int64_t end = p.offsets[g + 1];
    require(p.offsets[g] <= end, p, "offsets descend after group " + text(g));
    require(rows || end % kBlock == 0, p,
            "group " + text(g) + " ends at " + text(end) + ", expected a multiple of " + text(kBlock));
  }
}

}  // namespace

std::int64_t piece_of(const Int8Product& product) {
  return product.segment == 0 ? kInt8Piece : std::min(product.segment, kInt8Piece);
}

std::int64_t segments_of(const Int8Product& product, std::int64_t k) {
  return product.segment == 0 ? 1 : (k + product.segment - 1) / product.segment;
}

std::string describe(const Int8Product& p) {
  const std::string groups = p.grouped == Int8Groups::kNone ? "" : text(p.groups) + " groups of ";
  const std::string by = p.grouped == Int8Groups::kRows ? "rows " : "the depth ";
  const std::string segment = p.segment == 0 ? "one segment a row" : "segments of " + text(p.segment);
  const char* result = p.result == Int8Result::kBf16 ? "BF16" : p.result == Int8Result::kF32 ? "FP32" : "FP32, added";
  return "int8 product of " + groups + (groups.empty() ? "" : by) + "[" + text(p.m) + ", " + text(p.k) + "] x [" +
         text(p.k) + ", " + text(p.n) + "], " + segment + " -> " + result;
}

void check(const Int8Product& p) {
  require(p.m >= 0 && p.n >= 0 && p.k >= 0 && p.m <= kMaxSide && p.n <= kMaxSide && p.k <= kMaxSide, p,
          "a side is negative or too long");
  require(
      p.k % kBlock == 0, p,
      text(p.k) + " elements to contract, expected a multiple of " + text(kBlock) + " (operands are padded to blocks)");
  require(p.segment >= 0 && p.segment % kSegmentStep == 0 && p.segment <= kInt8Piece, p,
          "expected segments of a multiple of " + text(kSegmentStep) + " up to " + text(kInt8Piece));
  require(p.grouped == Int8Groups::kNone || (p.groups > 0 && p.offsets != nullptr), p, "groups need offsets");
  require(p.groups <= kMaxSide && (p.grouped != Int8Groups::kRows || p.n == 0 || p.groups <= kMaxSide / p.n), p,
          "too many groups");
  if (p.m == 0 || p.n == 0) return;
  check_operand(p, "a", p.a, p.m);
  check_operand(p, "b", p.b, p.grouped == Int8Groups::kRows ? p.groups * p.n : p.n);
  require(p.out != nullptr, p, "the result has no memory");
  require(p.m == 1 || p.out_row_stride >= p.n, p,
          "the result has rows " + text(p.out_row_stride) + " elements apart, expected at least " + text(p.n));
}

std::vector<Int8Product> groups_of(const Int8Product& p) {
  check(p);
  if (p.grouped == Int8Groups::kNone) return {p};
  check_offsets(p);
  std::vector<Int8Product> groups;
  std::int64_t segment = 0;
  const auto move_out = [&](Int8Product& group, std::int64_t rows) {
    if (p.out != nullptr) group.out = static_cast<std::uint8_t*>(p.out) + rows * p.out_row_stride * element_size(p);
  };
  for (std::int64_t g = 0; g < p.groups; ++g) {
    const std::int64_t first = p.offsets[g];
    Int8Product group = p;
    group.grouped = Int8Groups::kNone;
    group.groups = 1;
    group.offsets = nullptr;
    if (p.grouped == Int8Groups::kRows) {
      group.m = p.offsets[g + 1] - first;
      group.a.values += first * p.a.row_stride;
      group.a.scales += first * p.a.scale_row_stride;
      group.b.values += g * p.n * p.b.row_stride;
      group.b.scales += g * p.n * p.b.scale_row_stride;
      move_out(group, first);
    } else {
      group.k = p.offsets[g + 1] - first;
      for (Int8Operand* operand : {&group.a, &group.b}) {
        operand->values += first;
        operand->scales += segment * operand->scale_segment_stride;
      }
      move_out(group, g * p.m);
      segment += segments_of(p, group.k);
    }
    groups.push_back(group);
  }
  return groups;
}

void int8_product_reference(const Int8Product& product) {
  for (const Int8Product& group : groups_of(product)) multiply(group);
}

}  // namespace ufp4
