// The INT8 product by the tensor core instructions of a warp, which all devices from Ampere on have: for those without
// Hopper's. Copies of the next stages run while one is multiplied.
#include <cuda_runtime.h>

#include <algorithm>

#include "cuda/int8_kernels.h"
#include "cuda/int8_tile.cuh"
#include "cuda/kernels.h"
#include "ufp4/error.h"

namespace ufp4::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kTile = 128;
constexpr int kDepth = 64;  // bytes of a row in a stage
constexpr int kStages = 4;
constexpr int kOperandBytes = kTile * kDepth;
constexpr int kStageBytes = 2 * kOperandBytes;
constexpr int kShared = kStages * kStageBytes;
constexpr int kChunk = 16;
// A warp makes 32 rows and 64 columns.
constexpr int kWarpRows = 32, kWarpColumns = 64;
constexpr int kRowBlocks = kWarpRows / 16, kColumnBlocks = kWarpColumns / 8;

__device__ __forceinline__ std::uint32_t address_of(const void* p) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(p));
}

__device__ __forceinline__ void copy_chunk(std::uint32_t to, const void* from, bool there) {
  const int bytes = there ? kChunk : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
}

__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int kPending>
__device__ __forceinline__ void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

__device__ __forceinline__ void load_matrices(std::uint32_t (&to)[4], std::uint32_t from) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(from)
               : "memory");
}

__device__ __forceinline__ void mma(int (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Where a row's chunk lies: rows of one chunk that are read together fall into different banks.
__device__ __forceinline__ std::uint32_t place_of(int row, int chunk) {
  return row * kDepth + ((chunk ^ (row / 2 & 3)) * kChunk);
}

struct Operands {
  const std::int8_t* a;
  const std::int8_t* b;
  std::int64_t a_stride, b_stride;
};

__device__ __forceinline__ void fetch(const Operands& in, const Int8Task& task, const Int8Unit& unit, int done,
                                      std::uint32_t to) {
  if (done >= unit.depth) return;
#pragma unroll
  for (int i = 0; i < kTile * kDepth / kChunk / kThreads; ++i) {
    const int index = i * kThreads + static_cast<int>(threadIdx.x);
    const int row = index / (kDepth / kChunk);
    const int chunk = index % (kDepth / kChunk);
    const bool inside = done + chunk * kChunk < unit.depth;
    const std::int64_t depth = unit.depth_begin + done + chunk * kChunk;
    const bool a_there = inside && unit.row + row < unit.row_end;
    copy_chunk(to + place_of(row, chunk), a_there ? in.a + (unit.row + row) * in.a_stride + depth : in.a, a_there);
    const int column = unit.column + column_of_row(row, task.run);
    const bool b_there = inside && column < task.n;
    copy_chunk(to + kOperandBytes + place_of(row, chunk),
               b_there ? in.b + (std::int64_t{unit.b_row} + column) * in.b_stride + depth : in.b, b_there);
  }
}

__device__ __forceinline__ void multiply(std::uint32_t stage, int warp_row, int warp_column, int lane,
                                         int (&sums)[kRowBlocks][kColumnBlocks][4]) {
#pragma unroll
  for (int step = 0; step < kDepth / 32; ++step) {
    std::uint32_t a[kRowBlocks][4];
#pragma unroll
    for (int i = 0; i < kRowBlocks; ++i) {
      load_matrices(a[i], stage + place_of(warp_row + i * 16 + lane % 16, step * 2 + lane / 16));
    }
#pragma unroll
    for (int j = 0; j < kColumnBlocks; j += 2) {
      std::uint32_t b[4];
      load_matrices(
          b, stage + kOperandBytes + place_of(warp_column + j * 8 + lane / 16 * 8 + lane % 8, step * 2 + lane / 8 % 2));
#pragma unroll
      for (int i = 0; i < kRowBlocks; ++i) {
        mma(sums[i][j], a[i], b[0], b[1]);
        mma(sums[i][j + 1], a[i], b[2], b[3]);
      }
    }
  }
}

__global__ void __launch_bounds__(kThreads, 1)
    int8_mma(const __grid_constant__ Operands in, const __grid_constant__ Int8Task task) {
  extern __shared__ char shared[];
  const std::uint32_t memory = address_of(shared);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int warp_row = warp % 4 * kWarpRows;
  const int warp_column = warp / 4 * kWarpColumns;
  Int8Cursor cursor(task);
  Int8Unit unit;
  for (std::uint32_t number = blockIdx.x; cursor.find(number, unit); number += gridDim.x) {
    int sums[kRowBlocks][kColumnBlocks][4] = {};
    float y[kRowBlocks][2][kColumnBlocks / 4][8] = {};
    int segment = unit.segment;
    for (int i = 0; i < kStages - 1; ++i) {
      fetch(in, task, unit, i * kDepth, memory + i * kStageBytes);
      commit_copies();
    }
    int stage = 0;
    for (int done = 0; done < unit.depth; done += kDepth) {
      wait_copies<kStages - 2>();
      __syncthreads();
      fetch(in, task, unit, done + (kStages - 1) * kDepth, memory + (stage + kStages - 1) % kStages * kStageBytes);
      commit_copies();
      multiply(memory + stage * kStageBytes, warp_row, warp_column, lane, sums);
      stage = (stage + 1) % kStages;
      const int next = done + kDepth;
      if (next < unit.depth && next % task.piece != 0) continue;
      const float* a_scales = task.a_scales + segment * task.a_scale_segment;
      const float* b_scales = task.b_scales + segment * task.b_scale_segment;
#pragma unroll
      for (int j = 0; j < kColumnBlocks / 4; ++j) {
#pragma unroll
        for (int c = 0; c < 8; ++c) {
          const int place = warp_column + j * 32 + lane % 4 * 8 + c;
          const int column = unit.column + column_of(place, task.run);
          const float b =
              column < task.n ? __ldg(b_scales + (std::int64_t{unit.b_row} + column) * task.b_scale_row) : 0;
#pragma unroll
          for (int i = 0; i < kRowBlocks; ++i) {
#pragma unroll
            for (int half = 0; half < 2; ++half) {
              const int row = unit.row + warp_row + i * 16 + half * 8 + lane / 4;
              const float a = row < unit.row_end ? __ldg(a_scales + row * task.a_scale_row) : 0;
              int& sum = sums[i][j * 4 + c / 2][c % 2 + half * 2];
              y[i][half][j][c] = add_piece(y[i][half][j][c], sum, a, b);
              sum = 0;
            }
          }
        }
      }
      if (task.segment != 0) ++segment;
    }
    wait_copies<0>();
    __syncthreads();
    if (unit.depth == 0 && task.result == Int8Result::kF32Added) continue;
#pragma unroll
    for (int i = 0; i < kRowBlocks; ++i) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = unit.row + warp_row + i * 16 + half * 8 + lane / 4;
        if (row >= unit.row_end) continue;
#pragma unroll
        for (int j = 0; j < kColumnBlocks / 4; ++j) {
          store_results(task, unit.out_row + row, unit.column, warp_column + j * 32 + lane % 4 * 8, y[i][half][j]);
        }
      }
    }
  }
}

}  // namespace

void launch_int8_mma(const Int8Product& product, const Int8Task& task, Stream stream) {
  const cudaError_t error = cudaFuncSetAttribute(int8_mma, cudaFuncAttributeMaxDynamicSharedMemorySize, kShared);
  if (error != cudaSuccess) {
    cudaGetLastError();
    throw RunError(describe(product) + ": shared memory: " + cudaGetErrorString(error));
  }
  const Operands in{product.a.values, product.b.values, product.a.row_stride, product.b.row_stride};
  int8_mma<<<static_cast<unsigned>(multiprocessors()), kThreads, kShared, stream>>>(in, task);
  check_launch("int8_mma", product.m, product.n);
}

}  // namespace ufp4::cuda
