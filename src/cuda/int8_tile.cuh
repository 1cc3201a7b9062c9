// What the kernels of the INT8 product share: which tile comes next, the scales of a piece, and how results are stored.
//
// The tensor cores leave to a thread of a warp, of 16 rows, rows lane / 4 and that + 8, and of each 8 columns two
// neighbours at 2 * (lane % 4). So that it stores more at once, a kernel may read the rows of b in another order: then
// a thread has runs of 4 or 8 neighbouring columns (Int8Task::run), and the four threads of a row write whole sectors.
//
// A thread's results have places: of each 32 columns of a tile the eight from 8 * (lane % 4) on.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "cuda/int8_kernels.h"

namespace ufp4::cuda {

// The column of a tile at a place.
__device__ __forceinline__ int column_of(int place, int run) {
  const int lane = place / 8 % 4, i = place % 8;
  return place / 32 * 32 + i / run * (4 * run) + lane * run + i % run;
}

// The column that a row of b's tile is for: the tensor cores give row 8 j + 2 l + e of each 32 to thread l.
__device__ __forceinline__ int column_of_row(int row, int run) {
  const int j = row / 8 % 4, lane = row / 2 % 4;
  return column_of(row / 32 * 32 + lane * 8 + 2 * j + row % 2, run);
}

// A tile, or what a cluster makes together.
struct Int8Unit {
  int row, row_end;  // of a; stores end there
  int column;
  int depth, depth_begin;
  int b_row;             // the first of its group's matrix
  int segment;           // the first one of its group
  std::int64_t out_row;  // of row 0
};

// Goes through the units of all groups in ascending order. Every role of a block has its own and finds the same.
class Int8Cursor {
 public:
  __device__ explicit Int8Cursor(const Int8Task& task) : task_(task) {
    across_ = (task.n + task.unit_columns - 1) / task.unit_columns;
    enter();
  }

  // Whether there is a unit of that number; numbers ascend from call to call.
  __device__ bool find(std::uint32_t number, Int8Unit& unit) {
    while (number - begin_ >= static_cast<std::uint32_t>(down_) * across_) {
      begin_ += static_cast<std::uint32_t>(down_) * across_;
      if (task_.grouped == Int8Groups::kDepth) {
        segment_ += task_.segment == 0 ? 1 : (last_ - first_ + task_.segment - 1) / task_.segment;
      }
      if (++group_ >= task_.groups) return false;
      enter();
    }
    const int local = static_cast<int>(number - begin_);
    const int in_band = task_.band * across_;
    const int band = local / in_band;
    const int rest = local - band * in_band;
    const int high = min(task_.band, down_ - band * task_.band);
    const int column = rest / high;
    unit.row = (band * task_.band + rest - column * high) * task_.unit_rows;
    unit.column = column * task_.unit_columns;
    unit.row_end = task_.m;
    unit.depth = task_.k;
    unit.depth_begin = 0;
    unit.b_row = 0;
    unit.segment = segment_;
    unit.out_row = 0;
    if (task_.grouped == Int8Groups::kRows) {
      unit.row += first_;
      unit.row_end = last_;
      unit.b_row = group_ * task_.n;
    } else if (task_.grouped == Int8Groups::kDepth) {
      unit.depth = last_ - first_;
      unit.depth_begin = first_;
      unit.out_row = std::int64_t{group_} * task_.m;
    }
    return true;
  }

 private:
  __device__ void enter() {
    int rows = task_.m;
    if (task_.grouped != Int8Groups::kNone) {
      const int all = task_.grouped == Int8Groups::kRows ? task_.m : task_.k;
      first_ = min(max(__ldg(task_.offsets + group_), 0), all);
      last_ = min(max(__ldg(task_.offsets + group_ + 1), first_), all);
      if (task_.grouped == Int8Groups::kRows) rows = last_ - first_;
    }
    down_ = (rows + task_.unit_rows - 1) / task_.unit_rows;
  }

  const Int8Task& task_;
  std::uint32_t begin_ = 0;
  int group_ = 0, first_ = 0, last_ = 0, down_ = 0, across_ = 0, segment_ = 0;
};

// y + float(sum) * (a * b), each operation rounded once.
__device__ __forceinline__ float add_piece(float y, int sum, float a, float b) {
  return __fadd_rn(y, __fmul_rn(__int2float_rn(sum), __fmul_rn(a, b)));
}

__device__ __forceinline__ std::uint32_t bf16_pair(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const std::uint32_t*>(&pair);
}

__device__ __forceinline__ void store_four(const Int8Task& task, std::int64_t at, float4 y) {
  auto* to = reinterpret_cast<float4*>(static_cast<float*>(task.out) + at);
  if (task.result == Int8Result::kF32Added) {
    const float4 before = *to;
    y = {__fadd_rn(before.x, y.x), __fadd_rn(before.y, y.y), __fadd_rn(before.z, y.z), __fadd_rn(before.w, y.w)};
  }
  *to = y;
}

// Eight results of a thread: of `row` of out, at places `place` .. of the tile that begins at `column`.
__device__ __forceinline__ void store_results(const Int8Task& task, std::int64_t row, int column, int place,
                                              const float (&y)[8]) {
  const std::int64_t in_row = row * task.out_row_stride;
  if (task.run == 8) {  // BF16
    const int at = column + place;
    if (at >= task.n) return;
    *reinterpret_cast<uint4*>(static_cast<__nv_bfloat16*>(task.out) + in_row + at) = {
        bf16_pair(y[0], y[1]), bf16_pair(y[2], y[3]), bf16_pair(y[4], y[5]), bf16_pair(y[6], y[7])};
    return;
  }
  if (task.run == 4) {  // FP32
    const int at = column + column_of(place, 4);
    if (at < task.n) store_four(task, in_row + at, {y[0], y[1], y[2], y[3]});
    if (at + 16 < task.n) store_four(task, in_row + at + 16, {y[4], y[5], y[6], y[7]});
    return;
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const int at_column = column + column_of(place + i, 2);
    if (at_column >= task.n) continue;
    const std::int64_t at = in_row + at_column;
    if (task.result == Int8Result::kBf16) {
      static_cast<__nv_bfloat16*>(task.out)[at] = __float2bfloat16_rn(y[i]);
    } else {
      float* to = static_cast<float*>(task.out) + at;
      *to = task.result == Int8Result::kF32Added ? __fadd_rn(*to, y[i]) : y[i];
    }
  }
}

}  // namespace ufp4::cuda
