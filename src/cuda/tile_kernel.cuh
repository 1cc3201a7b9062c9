// Blocks along the stored columns, alone or together with blocks along the rows. A thread block works on tiles of 128
// rows and 128 bytes of columns; while it works on one, the next is copied to shared memory asynchronously.
#pragma once

#include <cuda_pipeline_primitives.h>

#include <algorithm>

#include "cuda/kernels.h"
#include "cuda/run.cuh"
#include "cuda/store.cuh"
#include "cuda/values.cuh"

namespace ufp4::cuda {

inline constexpr int kTileThreads = 256;
inline constexpr int kTileRows = 128;  // the longest block and transform
inline constexpr int kTileWords = 32;  // of a row
inline constexpr int kTilePad = 4;     // words after each 16 rows: the runs of a column then lie in different banks
inline constexpr int kTileStages = 2;
inline constexpr int kTileSize = kTileRows * kTileWords + kTileRows / kRun * kTilePad;
inline constexpr int kTileResident = 4;  // blocks on a multiprocessor

// `row` is not negative.
__device__ constexpr int tile_word(int row, int word) {
  return row * kTileWords + static_cast<int>(static_cast<unsigned>(row) / kRun) * kTilePad + word;
}

template <DType kType>
inline constexpr int kTileColumns = kTileWords* Values<kType>::kPerWord;

// Starts to copy the tile at (row0, column0); what lies beyond the matrix becomes zero.
template <DType kType>
__device__ inline void load_tile(std::uint32_t* tile, const Matrix& in, std::uint32_t row0, std::uint32_t column0) {
  using Element = typename Values<kType>::Element;
  constexpr int kPerVector = 16 / static_cast<int>(sizeof(Element));
  constexpr int kVectors = kTileWords / 4;            // in a row
  constexpr int kStepRows = kTileThreads / kVectors;  // that the block copies at a time
  const int word = static_cast<int>(threadIdx.x) % kVectors * 4;
  const int tile_row = static_cast<int>(threadIdx.x) / kVectors;
  const std::uint32_t column = column0 + static_cast<std::uint32_t>(word * Values<kType>::kPerWord);
  const int valid = column < in.columns ? static_cast<int>(min(in.columns - column, std::uint32_t{kPerVector})) : 0;
  const bool vectors = in.vector_rows && valid == kPerVector;
  std::uint32_t row = row0 + static_cast<std::uint32_t>(tile_row);
  const auto* from = static_cast<const Element*>(in.data) + row * in.row_stride + column;
  std::uint32_t* to = tile + tile_word(tile_row, word);
#pragma unroll
  for (int i = 0; i < kTileRows / kStepRows; ++i) {
    if (vectors && row < in.rows) {
      __pipeline_memcpy_async(to, from, 16);
    } else {
      auto* elements = reinterpret_cast<Element*>(to);
#pragma unroll 1
      for (int k = 0; k < kPerVector; ++k) elements[k] = row < in.rows && k < valid ? from[k] : Element{};
    }
    row += kStepRows;
    from += kStepRows * in.row_stride;
    to += tile_word(kStepRows, 0);
  }
}

// A run of 16 words along the columns of the tile gives one or two columns' runs.
template <DType kType, Grid kGrid, bool kStochastic, Span kSpan>
__device__ inline void quantize_tile_columns(const std::uint32_t* tile, const Operand& p, std::uint32_t row0,
                                             std::uint32_t column0, float lane_value) {
  constexpr int kPerWord = Values<kType>::kPerWord;
  constexpr int kRuns = kTileRows / kRun;
  // Adjacent lanes hold adjacent runs of a column: their results are contiguous.
  const int run = static_cast<int>(threadIdx.x) % kRuns;
  const int word = static_cast<int>(threadIdx.x) / kRuns;
  const std::uint32_t* words = tile + run * tile_word(kRun, 0) + word;
  const std::uint32_t first_row = row0 + static_cast<std::uint32_t>(run * kRun);
#pragma unroll 1  // both columns at once need more registers than there are
  for (int part = 0; part < kPerWord; ++part) {
    float v[kRun];
#pragma unroll
    for (int i = 0; i < kRun; ++i) v[i] = Values<kType>::select(words[i * kTileWords], part);
    const std::uint32_t column = column0 + static_cast<std::uint32_t>(word * kPerWord + part);
    const RunCodes codes = quantize_run<kGrid, kStochastic, kSpan>(v, p, column, first_row);
    store_run<kSpan>(p, column, first_row / kRun, codes, lane_value, column < p.rows && first_row < p.columns);
  }
}

template <DType kType, Grid kGrid, bool kStochastic, Span kSpan>
__device__ inline void quantize_tile_rows(const std::uint32_t* tile, const Operand& p, std::uint32_t row0,
                                          std::uint32_t column0, float lane_value) {
  constexpr int kPerWord = Values<kType>::kPerWord;
  constexpr int kRunWords = kRun / kPerWord;
  constexpr int kRuns = kTileWords / kRunWords;  // in a row of the tile
#pragma unroll 1
  for (int step = 0; step < kTileRows * kRuns / kTileThreads; ++step) {
    const int index = step * kTileThreads + static_cast<int>(threadIdx.x);
    const int run = index % kRuns;
    const int tile_row = index / kRuns;
    const auto* from = reinterpret_cast<const uint4*>(tile + tile_word(tile_row, run * kRunWords));
    float v[kRun];
#pragma unroll
    for (int i = 0; i < kRunWords; i += 4) {
      const uint4 x = from[i / 4];
      const std::uint32_t words[4] = {x.x, x.y, x.z, x.w};
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        for (int part = 0; part < kPerWord; ++part) v[(i + k) * kPerWord + part] = Values<kType>::get(words[k], part);
      }
    }
    const std::uint32_t row = row0 + static_cast<std::uint32_t>(tile_row);
    const std::uint32_t column = column0 + static_cast<std::uint32_t>(run * kRun);
    const RunCodes codes = quantize_run<kGrid, kStochastic, kSpan>(v, p, row, column);
    store_run<kSpan>(p, row, column / kRun, codes, lane_value, row < p.rows && column < p.columns);
  }
}

// Where a tile lies. Tiles are numbered down a band of a few, then along the rows, then band after band: the tiles
// under way together read long pieces of the rows and write whole lines of the column operand. A row operand has but
// half a sector of scales in a tile: with one, neighbours along the rows come one after the other.
struct TilePlace {
  std::uint32_t row0, column0;
};

template <bool kBoth>
inline constexpr std::uint32_t kBandTiles = kBoth ? 1 : 8;

template <DType kType, bool kBoth>
__device__ inline TilePlace place_tile(std::uint32_t tile, std::uint32_t down, std::uint32_t across) {
  const std::uint32_t band = tile / (kBandTiles<kBoth> * across);
  const std::uint32_t within = tile - band * kBandTiles<kBoth> * across;
  const std::uint32_t height = min(kBandTiles<kBoth>, down - band * kBandTiles<kBoth>);
  return {(band * kBandTiles<kBoth> + within % height) * kTileRows, within / height * kTileColumns<kType>};
}

template <DType kType, Grid kGrid, bool kStochastic, Span kSpan, bool kBoth>
__global__ void __launch_bounds__(kTileThreads, kTileResident)
    quantize_tiles(const __grid_constant__ Matrix in, const __grid_constant__ Operand column,
                   const __grid_constant__ Operand row, std::uint32_t down, std::uint32_t across) {
  __shared__ __align__(16) std::uint32_t stages[kTileStages][kTileSize];
  const float column_value = values_of_lane(column.values);
  const float row_value = kBoth ? values_of_lane(row.values) : 0.0F;
  std::uint32_t tile = blockIdx.x;
  TilePlace place = place_tile<kType, kBoth>(tile, down, across);
  load_tile<kType>(stages[0], in, place.row0, place.column0);
  __pipeline_commit();
  for (int stage = 0; tile < down * across; stage ^= 1) {
    tile += gridDim.x;
    TilePlace next{};
    if (tile < down * across) {
      next = place_tile<kType, kBoth>(tile, down, across);
      load_tile<kType>(stages[stage ^ 1], in, next.row0, next.column0);
    }
    __pipeline_commit();
    __pipeline_wait_prior(1);
    __syncthreads();
    quantize_tile_columns<kType, kGrid, kStochastic, kSpan>(stages[stage], column, place.row0, place.column0,
                                                            column_value);
    if constexpr (kBoth) {
      quantize_tile_rows<kType, kGrid, kStochastic, kSpan>(stages[stage], row, place.row0, place.column0, row_value);
    }
    __syncthreads();  // before this stage is overwritten
    place = next;
  }
}

template <DType kType, Grid kGrid, bool kStochastic, Span kSpan, bool kBoth>
void start_tiles(const Matrix& in, const Operand& column, const Operand& row, Stream stream) {
  const std::int64_t down = (std::int64_t{in.rows} + kTileRows - 1) / kTileRows;
  const std::int64_t across = (std::int64_t{in.columns} + kTileColumns<kType> - 1) / kTileColumns<kType>;
  const auto blocks = static_cast<unsigned>(std::min(down * across, resident_blocks(kTileResident)));
  quantize_tiles<kType, kGrid, kStochastic, kSpan, kBoth><<<blocks, kTileThreads, 0, stream>>>(
      in, column, row, static_cast<std::uint32_t>(down), static_cast<std::uint32_t>(across));
  check_launch(kBoth ? "quantize_tiles (both axes)" : "quantize_tiles", in.rows, in.columns);
}

}  // namespace ufp4::cuda
