// The INT8 product on Hopper. A block has three warpgroups and stays for many tiles. One fetches: a thread the operands
// through TMA, a warp the scales. Each of the other two multiplies 64 rows of the tile. They wait for stages and free
// them, but never for one another: while one converts the sums of a piece, the other keeps the tensor cores busy.
#include <cuda_runtime.h>

#include <algorithm>
#include <string>
#include <string_view>

#include "cuda/hopper.cuh"
#include "cuda/int8_kernels.h"
#include "cuda/int8_tile.cuh"
#include "cuda/kernels.h"
#include "ufp4/error.h"

// On other architectures the kernel is empty, and what it is made of has no use.
#if defined(__CUDA_ARCH__) && !defined(__CUDA_ARCH_FEAT_SM90_ALL)
#pragma nv_diag_suppress declared_but_not_referenced
#endif

namespace ufp4::cuda {
namespace {

constexpr int kGroupThreads = 128;  // of a warpgroup
constexpr int kMultipliers = 2;     // warpgroups that multiply
constexpr int kThreads = kGroupThreads * (1 + kMultipliers);
constexpr int kScaleSlots = 4;
constexpr int kStep = 32;  // of the contraction axis in an instruction
constexpr int kFetchRegisters = 40;
constexpr int kMultiplyRegisters = 232;
constexpr int kHalfRows = kInt8TileRows / 2;
constexpr int kABytes = kInt8TileRows * kInt8Depth;

// The shared memory of a block, as offsets from a multiple of 1024: stages of a then b, scales, barriers.
template <int kColumns>
struct Layout {
  static constexpr int kStages = stages_of(kColumns);
  static constexpr int kStageBytes = kABytes + kColumns * kInt8Depth;
  static constexpr int kScales = kStages * kStageBytes;
  static constexpr int kScaleBytes = (kInt8TileRows + kColumns) * 4;
  static constexpr int kFull = kScales + kScaleSlots * kScaleBytes;
  static constexpr int kEmpty = kFull + kStages * 8;
  static constexpr int kScalesFull = kEmpty + kStages * 8;
  static constexpr int kScalesEmpty = kScalesFull + kScaleSlots * 8;
  static constexpr int kBytes = kScalesEmpty + kScaleSlots * 8;
  static constexpr int kAllocated = kBytes + 1024;  // to begin at a multiple
  static_assert(kStageBytes % 1024 == 0 && kAllocated <= 227 * 1024);
};

struct Params {
  CUtensorMap a, b;
  Int8Task task;
};

// A place in a ring of kCount, and the parity of the barriers' phase there.
template <int kCount>
struct Ring {
  int index = 0;
  std::uint32_t parity = 0;
  __device__ __forceinline__ void next() {
    if (++index == kCount) {
      index = 0;
      parity ^= 1;
    }
  }
};

// The tile of this block in a unit.
__device__ __forceinline__ bool find_tile(Int8Cursor& cursor, const Int8Task& task, std::uint32_t number, int columns,
                                          int rank, Int8Unit& unit) {
  if (!cursor.find(number, unit)) return false;
  if (task.share == Int8Share::kB) unit.row += rank * kInt8TileRows;
  if (task.share == Int8Share::kA) unit.column += rank * columns;
  return true;
}

__device__ __forceinline__ void copy_b(const Params& p, std::uint32_t to, std::uint32_t barrier, int depth, int row,
                                       std::uint16_t mask) {
  const bool plain = p.task.run == 2;
  const int one = plain ? row : 0;
  const int many = plain ? 0 : row / (4 * p.task.run);
  if (mask == 0) {
    tensor_copy(to, p.b, barrier, depth, one, 0, 0, many);
  } else {
    tensor_copy(to, p.b, barrier, depth, one, 0, 0, many, mask);
  }
}

// One thread. Boxes are half of a tile's rows; a shared half is fetched once for both blocks.
template <int kColumns>
__device__ void fetch_operands(const Params& p, std::uint32_t memory, std::uint32_t first, std::uint32_t step,
                               int rank) {
  using L = Layout<kColumns>;
  constexpr std::uint16_t kBoth = 3;
  constexpr int kAHalf = kABytes / 2;
  constexpr int kBHalf = kColumns / 2 * kInt8Depth;
  Int8Cursor cursor(p.task);
  Int8Unit unit;
  Ring<L::kStages> stage;
  for (std::uint32_t number = first; find_tile(cursor, p.task, number, kColumns, rank, unit); number += step) {
    const int b_row = unit.b_row + unit.column;
    for (int done = 0; done < unit.depth; done += kInt8Depth) {
      const std::uint32_t full = memory + L::kFull + stage.index * 8;
      const std::uint32_t a = memory + stage.index * L::kStageBytes;
      const std::uint32_t b = a + kABytes;
      const int depth = unit.depth_begin + done;
      barrier_wait(memory + L::kEmpty + stage.index * 8, stage.parity ^ 1);
      barrier_arrive_expecting(full, L::kStageBytes);
      if (p.task.share == Int8Share::kA) {
        tensor_copy(a + rank * kAHalf, p.a, full, depth, unit.row + rank * kHalfRows, kBoth);
      } else {
        tensor_copy(a, p.a, full, depth, unit.row);
        tensor_copy(a + kAHalf, p.a, full, depth, unit.row + kHalfRows);
      }
      if (p.task.share == Int8Share::kB) {
        copy_b(p, b + rank * kBHalf, full, depth, b_row + rank * (kColumns / 2), kBoth);
      } else {
        copy_b(p, b, full, depth, b_row, 0);
        copy_b(p, b + kBHalf, full, depth, b_row + kColumns / 2, 0);
      }
      stage.next();
    }
  }
}

// One warp: for each piece the scales of the tile's rows, then those of its columns in the order of their places.
template <int kColumns>
__device__ void fetch_scales(const Params& p, std::uint32_t memory, std::uint32_t first, std::uint32_t step, int rank,
                             int lane) {
  using L = Layout<kColumns>;
  const Int8Task& task = p.task;
  Int8Cursor cursor(task);
  Int8Unit unit;
  Ring<kScaleSlots> slot;
  for (std::uint32_t number = first; find_tile(cursor, task, number, kColumns, rank, unit); number += step) {
    int segment = unit.segment;
    for (int done = 0; done < unit.depth; done += task.piece) {
      barrier_wait(memory + L::kScalesEmpty + slot.index * 8, slot.parity ^ 1);
      const std::uint32_t to = memory + L::kScales + slot.index * L::kScaleBytes;
      const float* a = task.a_scales + segment * task.a_scale_segment;
      const float* b = task.b_scales + segment * task.b_scale_segment;
#pragma unroll
      for (int i = 0; i < kInt8TileRows; i += 32) {
        const int row = unit.row + i + lane;
        const bool there = row < unit.row_end;
        copy_word(to + (i + lane) * 4, there ? a + row * task.a_scale_row : a, there);
      }
#pragma unroll
      for (int i = 0; i < kColumns; i += 32) {
        const int column = unit.column + i + column_of(lane, task.run);
        const bool there = column < task.n;
        copy_word(to + (kInt8TileRows + i + lane) * 4, there ? b + (unit.b_row + column) * task.b_scale_row : b, there);
      }
      barrier_arrive_after_copies(memory + L::kScalesFull + slot.index * 8);
      slot.next();
      if (task.segment != 0) ++segment;
    }
  }
}

// The sums of a thread that the warpgroup's instruction leaves: per 8 columns two of one row, two of the row 8 below.
__device__ __forceinline__ constexpr int sum_index(int chunk, int i, int row) {
  return (chunk * 4 + i / 2) * 4 + i % 2 + row * 2;
}

struct Scales {
  float row[2];
  const float* columns;  // in shared memory, of this thread's first place
};

__device__ __forceinline__ void load_columns(const Scales& scales, int chunk, float (&to)[8]) {
  const auto* from = reinterpret_cast<const float4*>(scales.columns + chunk * 32);
  const float4 low = from[0], high = from[1];
  to[0] = low.x, to[1] = low.y, to[2] = low.z, to[3] = low.w;
  to[4] = high.x, to[5] = high.y, to[6] = high.z, to[7] = high.w;
}

// A group's depth may end within a step of an instruction, where the next group's begins: zeros in these rows of a.
__device__ __forceinline__ void clear_beyond(std::uint32_t rows, int block, int thread) {
  if (thread < kHalfRows) {
    const std::uint32_t at = rows + thread * kInt8Depth + ((block ^ (thread & 7)) << 4);
    asm volatile("st.shared.v4.b32 [%0], {%1, %1, %1, %1};" ::"r"(at), "r"(0) : "memory");
  }
  fence_async_proxy();
}

// Begins with kSteps instructions on a stage. They stand in a row: the compiler serializes those of a loop.
template <int kSteps, int kSums>
__device__ __forceinline__ void multiply_stage(int (&sums)[kSums], std::uint64_t a, std::uint64_t b, bool add) {
  wgmma_touch(sums);
  wgmma_fence();
#pragma unroll
  for (int k = 0; k < kSteps; ++k) wgmma<2 * kSums>(sums, a + 2 * k, b + 2 * k, add || k != 0);
  wgmma_commit();
  wgmma_touch(sums);
}

// What a thread has of 32 columns.
template <int kSums>
__device__ __forceinline__ void store_chunk(const Int8Task& task, const Int8Unit& unit, int own_row, int place,
                                            int chunk, const float (&y)[kSums]) {
#pragma unroll
  for (int row = 0; row < 2; ++row) {
    const int in_a = unit.row + own_row + row * 8;
    if (in_a >= unit.row_end) continue;
    float result[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) result[i] = y[sum_index(chunk, i, row)];
    store_results(task, unit.out_row + in_a, unit.column, chunk * 32 + place, result);
  }
}

// The two warpgroups take turns at work beside the tensor cores. Those would stand idle if both came to it at once, as
// they do without turns: they multiply at the same pace.
struct Turns {
  int group;
  bool taken;                       // or not at all
  static constexpr int kFirst = 3;  // names of barriers
  __device__ __forceinline__ void begin() const {
    if (taken && group == 1) named_arrive(kFirst, kMultipliers * kGroupThreads);
  }
  __device__ __forceinline__ void wait() const {
    if (taken) named_barrier(kFirst + group, kMultipliers * kGroupThreads);
  }
  __device__ __forceinline__ void pass() const {
    if (taken) named_arrive(kFirst + 1 - group, kMultipliers * kGroupThreads);
  }
  __device__ __forceinline__ void end() const {
    if (taken && group == 0) named_barrier(kFirst, kMultipliers * kGroupThreads);
  }
};

// Of 32 columns: y + float(sum) * scales, 16 results at a time, so that there is always another operation to begin.
template <int kSums, typename Y>
__device__ __forceinline__ void add_chunk(Y& y, const int (&sums)[kSums], int chunk, const Scales& scales) {
  float column[8];
  load_columns(scales, chunk, column);
  float term[16];
#pragma unroll
  for (int i = 0; i < 16; ++i) term[i] = __fmul_rn(scales.row[i % 2], column[i / 2]);
#pragma unroll
  for (int i = 0; i < 16; ++i) term[i] = __fmul_rn(__int2float_rn(sums[sum_index(chunk, i / 2, i % 2)]), term[i]);
#pragma unroll
  for (int i = 0; i < 16; ++i) {
    const int at = sum_index(chunk, i / 2, i % 2);
    y[at] = __fadd_rn(y[at], term[i]);
  }
}

// One warpgroup: 64 rows of every tile of the block. kWhole: a sum has one piece; where it has more after all, their
// sums in FP32 are kept in local memory.
template <int kColumns, bool kWhole>
__device__ void multiply(const Params& p, char* shared, std::uint32_t memory, std::uint32_t first, std::uint32_t step,
                         int rank, int group, int thread) {
  using L = Layout<kColumns>;
  constexpr int kSums = kColumns / 2;
  const Int8Task& task = p.task;
  const int lane = thread % 32;
  const int own_row = group * kHalfRows + thread / 32 * 16 + lane / 4;
  const int own_place = lane % 4 * 8;
  const bool shares = task.share != Int8Share::kNothing;
  const Turns turns{group, task.in_turn};
  const auto release = [&](int stage) {
    const std::uint32_t barrier = memory + L::kEmpty + stage * 8;
    if (shares) {
      if (lane < 2) barrier_arrive(barrier, lane);
    } else if (lane == 0) {
      barrier_arrive(barrier);
    }
  };
  int sums[kSums];
  float y[kSums];
  if constexpr (kWhole) asm volatile("" ::"l"(&y[0]) : "memory");
  Int8Cursor cursor(task);
  Int8Unit unit;
  Ring<L::kStages> stage;
  Ring<kScaleSlots> slot;
  const auto release_scales = [&] {
    __syncwarp();
    if (lane == 0) barrier_arrive(memory + L::kScalesEmpty + slot.index * 8);
    slot.next();
  };
  turns.begin();
  for (std::uint32_t number = first; find_tile(cursor, task, number, kColumns, rank, unit); number += step) {
    const bool in_pieces = !kWhole || unit.depth > task.piece;
    if (in_pieces) {
#pragma unroll
      for (int i = 0; i < kSums; ++i) y[i] = 0;
    }
    Scales scales{};
    for (int begin = 0; begin < unit.depth; begin += task.piece) {
      const int end = min(unit.depth, begin + task.piece);
      int last_stage = -1;
      for (int done = begin; done < end; done += kInt8Depth) {
        barrier_wait(memory + L::kFull + stage.index * 8, stage.parity);
        const std::uint32_t a = memory + stage.index * L::kStageBytes + group * (kABytes / 2);
        const std::uint64_t a_rows = swizzled_rows(a);
        const std::uint64_t b_rows = swizzled_rows(memory + stage.index * L::kStageBytes + kABytes);
        const int left = unit.depth - done;
        if (task.grouped == Int8Groups::kDepth && left < kInt8Depth && left % kStep != 0) {
          clear_beyond(a, left / 16, thread);
          named_barrier(1 + group, kGroupThreads);
        }
        const bool add = done != begin;
        if (left > 3 * kStep) {
          multiply_stage<4>(sums, a_rows, b_rows, add);
        } else if (left > 2 * kStep) {
          multiply_stage<3>(sums, a_rows, b_rows, add);
        } else if (left > kStep) {
          multiply_stage<2>(sums, a_rows, b_rows, add);
        } else {
          multiply_stage<1>(sums, a_rows, b_rows, add);
        }
        if (last_stage >= 0) {
          wgmma_wait<1>();
          release(last_stage);
        }
        last_stage = stage.index;
        stage.next();
      }
      barrier_wait(memory + L::kScalesFull + slot.index * 8, slot.parity);
      const auto* loaded = reinterpret_cast<const float*>(shared + L::kScales + slot.index * L::kScaleBytes);
      scales = {{loaded[own_row], loaded[own_row + 8]}, loaded + kInt8TileRows + own_place};
      wgmma_wait<0>();
      wgmma_touch(sums);
      release(last_stage);
      if (in_pieces) {
        if constexpr (!kWhole) turns.wait();
#pragma unroll
        for (int chunk = 0; chunk < kColumns / 32; ++chunk) add_chunk(y, sums, chunk, scales);
        if constexpr (!kWhole) turns.pass();
        release_scales();
      }
    }
    if constexpr (kWhole) turns.wait();
    const bool nothing = unit.depth == 0;
    if (!nothing || task.result != Int8Result::kF32Added) {
      // Where the results go is worked out here: all those places at once would not fit the registers.
      int place = own_place;
      asm volatile("" : "+r"(place));
#pragma unroll
      for (int chunk = 0; chunk < kColumns / 32; ++chunk) {
        if constexpr (kWhole) {
          float whole[kSums];
          if (in_pieces) {
#pragma unroll
            for (int i = 0; i < 16; ++i) whole[chunk * 16 + i] = y[chunk * 16 + i];
          } else {
#pragma unroll
            for (int i = 0; i < 16; ++i) whole[chunk * 16 + i] = 0;
            if (!nothing) add_chunk(whole, sums, chunk, scales);
          }
          store_chunk(task, unit, own_row, place, chunk, whole);
        } else {
          store_chunk(task, unit, own_row, place, chunk, y);
        }
      }
    }
    if constexpr (kWhole) {
      turns.pass();
      if (!nothing && !in_pieces) release_scales();
    }
  }
  turns.end();
}

template <int kColumns, bool kWhole>
__global__ void __launch_bounds__(kThreads, 1) int8_wgmma(const __grid_constant__ Params p) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  using L = Layout<kColumns>;
  extern __shared__ char allocated[];
  char* shared = allocated + ((1024 - (shared_address(allocated) & 1023)) & 1023);
  const std::uint32_t memory = shared_address(shared);
  const int cluster = p.task.share == Int8Share::kNothing ? 1 : 2;
  const int rank = cluster == 1 ? 0 : static_cast<int>(block_of_cluster());
  const int group = static_cast<int>(threadIdx.x) / kGroupThreads;
  const int thread = static_cast<int>(threadIdx.x) % kGroupThreads;
  if (threadIdx.x == 0) {
    prefetch_map(p.a);
    prefetch_map(p.b);
    for (int i = 0; i < L::kStages; ++i) {
      barrier_init(memory + L::kFull + i * 8, 1);
      barrier_init(memory + L::kEmpty + i * 8, cluster * kMultipliers * kGroupThreads / 32);
    }
    for (int i = 0; i < kScaleSlots; ++i) {
      barrier_init(memory + L::kScalesFull + i * 8, 32);
      barrier_init(memory + L::kScalesEmpty + i * 8, kMultipliers * kGroupThreads / 32);
    }
    fence_barrier_init();
  }
  __syncthreads();
  cluster_sync();

  const std::uint32_t first = blockIdx.x / cluster;
  const std::uint32_t step = gridDim.x / cluster;
  if (group == 0) {
    give_registers<kFetchRegisters>();
    if (thread == 0) {
      fetch_operands<kColumns>(p, memory, first, step, rank);
    } else if (thread / 32 == 1) {
      fetch_scales<kColumns>(p, memory, first, step, rank, thread % 32);
    }
    // A block stays while the other may still write to it or arrive at its barriers.
    cluster_sync();
    return;
  }
  take_registers<kMultiplyRegisters>();
  multiply<kColumns, kWhole>(p, shared, memory, first, step, rank, group - 1, thread);
  cluster_sync();
#endif
}

void check_cuda(cudaError_t error, const Int8Product& product, const char* what) {
  if (error == cudaSuccess) return;
  cudaGetLastError();
  throw RunError(describe(product) + ": " + what + ": " + cudaGetErrorString(error));
}

using Encode = CUresult (*)(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*, const cuuint64_t*,
                            const cuuint32_t*, const cuuint32_t*, CUtensorMapInterleave, CUtensorMapSwizzle,
                            CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

// Of the driver, which nothing here links.
Encode encoder(const Int8Product& product) {
  static const auto found = [] {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult result{};
    const cudaError_t error =
        cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &result);
    return error == cudaSuccess && result == cudaDriverEntryPointSuccess ? function : nullptr;
  }();
  if (found == nullptr) throw RunError(describe(product) + ": the driver has no cuTensorMapEncodeTiled");
  return reinterpret_cast<Encode>(found);
}

template <std::size_t kRank>
CUtensorMap encode(const Int8Product& product, const char* name, const void* data, const cuuint64_t (&sides)[kRank],
                   const cuuint64_t (&strides)[kRank - 1], const cuuint32_t (&box)[kRank]) {
  CUtensorMap map{};
  cuuint32_t steps[kRank];
  std::fill(steps, steps + kRank, 1U);
  const CUresult error =
      encoder(product)(&map, CU_TENSOR_MAP_DATA_TYPE_UINT8, kRank, const_cast<void*>(data), sides, strides, box, steps,
                       CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                       CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (error == CUDA_SUCCESS) return map;
  throw RunError(describe(product) + ": cuTensorMapEncodeTiled of operand " + name + ": error " +
                 std::to_string(static_cast<int>(error)));
}

CUtensorMap map_of_a(const Int8Product& p) {
  const auto stride = static_cast<cuuint64_t>(p.a.row_stride);
  return encode<2>(p, "a", p.a.values, {static_cast<cuuint64_t>(p.k), static_cast<cuuint64_t>(p.m)}, {stride},
                   {kInt8Depth, kHalfRows});
}

// Its rows in the order that gives a thread runs of columns (int8_tile.cuh).
CUtensorMap map_of_b(const Int8Product& p, int columns, int run) {
  const auto stride = static_cast<cuuint64_t>(p.b.row_stride);
  const auto k = static_cast<cuuint64_t>(p.k);
  const auto rows = static_cast<cuuint64_t>(p.grouped == Int8Groups::kRows ? p.groups * p.n : p.n);
  const auto half = static_cast<cuuint32_t>(columns / 2);
  if (run == 2) {
    return encode<5>(p, "b", p.b.values, {k, rows, 1, 1, 1}, {stride, stride, stride, stride},
                     {kInt8Depth, half, 1, 1, 1});
  }
  const auto wide = static_cast<cuuint64_t>(run);
  return encode<5>(p, "b", p.b.values, {k, 2, 4, wide / 2, rows / (4 * wide)},
                   {stride, wide * stride, 2 * stride, 4 * wide * stride},
                   {kInt8Depth, 2, 4, static_cast<cuuint32_t>(run / 2), half / (4 * static_cast<cuuint32_t>(run))});
}

template <int kColumns, bool kWhole>
void launch(const Int8Product& product, const Params& params, int cluster, std::int64_t blocks, Stream stream) {
  constexpr int kShared = Layout<kColumns>::kAllocated;
  const auto kernel = int8_wgmma<kColumns, kWhole>;
  check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kShared), product,
             "shared memory");
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim = {static_cast<unsigned>(cluster), 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(kThreads);
  config.dynamicSmemBytes = kShared;
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = 1;
  check_cuda(cudaLaunchKernelEx(&config, kernel, params), product, "launch");
}

}  // namespace

bool has_wgmma() {
  int device = 0;
  int major = 0;
  int minor = 0;
  if (cudaGetDevice(&device) != cudaSuccess ||
      cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) != cudaSuccess ||
      cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device) != cudaSuccess) {
    return false;
  }
  return major == 9 && minor == 0 && std::string_view(UFP4_CUDA_ARCHITECTURES).find("90a") != std::string_view::npos;
}

void launch_int8_wgmma(const Int8Product& product, const Int8Task& task, const Int8Launch& how, Stream stream) {
  const Params params{map_of_a(product), map_of_b(product, how.columns, task.run), task};
  const int cluster = cluster_of(how);
  // As many as fit, unless there is less to do; the number of tiles of groups of rows is known to the device alone.
  std::int64_t clusters = std::max<std::int64_t>(1, multiprocessors() / cluster);
  if (task.grouped != Int8Groups::kRows) {
    const std::int64_t down = (product.m + task.unit_rows - 1) / task.unit_rows;
    const std::int64_t across = (product.n + task.unit_columns - 1) / task.unit_columns;
    clusters = std::min(clusters, product.groups * down * across);
  }
  const std::int64_t blocks = clusters * cluster;
  const auto run = how.whole ? (how.columns == 256 ? launch<256, true> : launch<128, true>)
                             : (how.columns == 192 ? launch<192, false> : launch<128, false>);
  run(product, params, cluster, blocks, stream);
}

}  // namespace ufp4::cuda
