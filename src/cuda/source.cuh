// What the tile kernel quantizes: how a tile of it comes into shared memory. Tiles have 128 rows and 128 bytes of
// columns; all threads of a block call load together and wait for each other. kAsync: and for their copies.
#pragma once

#include <cuda_pipeline_primitives.h>

#include "cuda/launch.h"
#include "cuda/layer.cuh"
#include "cuda/operand.h"
#include "cuda/values.cuh"

namespace ufp4::cuda {

inline constexpr int kTileWords = 32;  // of a row
// Words after each 16 rows, so that the runs of a column lie in different banks, and after the tile, so that those of a
// row in two tiles side by side do.
inline constexpr int kTilePad = 4;
inline constexpr int kTileSize = kTileRows * kTileWords + kTileRows / kRun * kTilePad + kTilePad;
inline constexpr int kTileVectors = kTileWords / 4;                // in a row
inline constexpr int kTileStepRows = kTileThreads / kTileVectors;  // that the block loads at a time
inline constexpr int kTileSteps = kTileRows / kTileStepRows;

template <DType kType>
inline constexpr int kTileColumns = kTileWords* Values<kType>::kPerWord;

// `row` is not negative.
__device__ constexpr int tile_word(int row, int word) {
  return row * kTileWords + static_cast<int>(static_cast<unsigned>(row) / kRun) * kTilePad + word;
}

// The vector of 16 bytes that a thread loads first; further ones lie kTileStepRows rows below.
struct TileVector {
  int row, word;
};
__device__ inline TileVector first_vector() {
  return {static_cast<int>(threadIdx.x) / kTileVectors, static_cast<int>(threadIdx.x) % kTileVectors * 4};
}

// A matrix in memory, copied asynchronously. What lies beyond it becomes zero.
template <DType kInput>
struct MatrixSource {
  static constexpr DType kType = kInput;
  static constexpr bool kAsync = true;
  static constexpr Pairs kPairs = Pairs::kNone;
  Matrix in;

  __host__ std::int64_t rows() const { return in.rows; }
  __host__ std::int64_t columns() const { return in.columns; }

  __device__ void load(std::uint32_t* tile, std::uint32_t row0, std::uint32_t column0) const {
    using Element = typename Values<kType>::Element;
    constexpr int kPerVector = 16 / static_cast<int>(sizeof(Element));
    const TileVector first = first_vector();
    const std::uint32_t column = column0 + static_cast<std::uint32_t>(first.word * Values<kType>::kPerWord);
    std::uint32_t row = row0 + static_cast<std::uint32_t>(first.row);
    // The corner is the same for all threads, and what a thread adds to it for all tiles.
    const auto* corner = static_cast<const Element*>(in.data) + (row0 * in.row_stride + column0);
    const auto* from = corner + (first.row * in.row_stride + first.word * Values<kType>::kPerWord);
    std::uint32_t* to = tile + tile_word(first.row, first.word);
    const std::int64_t step = kTileStepRows * in.row_stride;
    if (in.vector_rows && row0 + kTileRows <= in.rows && column + kPerVector <= in.columns) {
#pragma unroll
      for (int i = 0; i < kTileSteps; ++i) {
        __pipeline_memcpy_async(to + i * tile_word(kTileStepRows, 0), from, 16);
        from += step;
      }
      return;
    }
    const int valid = column < in.columns ? static_cast<int>(min(in.columns - column, std::uint32_t{kPerVector})) : 0;
#pragma unroll 1
    for (int i = 0; i < kTileSteps; ++i) {
      auto* elements = reinterpret_cast<Element*>(to);
#pragma unroll 1
      for (int k = 0; k < kPerVector; ++k) elements[k] = row < in.rows && k < valid ? from[k] : Element{};
      row += kTileStepRows;
      from += step;
      to += tile_word(kTileStepRows, 0);
    }
  }
};

// The result of a layer, made of its inputs while they are loaded.
template <typename Layer>
struct LayerSource {
  static constexpr DType kType = DType::kBF16;
  static constexpr bool kAsync = false;
  static constexpr Pairs kPairs = Layer::kPairs;
  Layer layer;

  __host__ __device__ std::int64_t rows() const { return layer.rows(); }
  __host__ __device__ std::int64_t columns() const { return layer.columns(); }

  // Asks for the inputs of a tile, so that its load finds them in the cache.
  __device__ void prefetch(std::uint32_t row0, std::uint32_t column0) const {
    for (int i = static_cast<int>(threadIdx.x); i < Layer::kInputs * kTileRows; i += kTileThreads) {
      const std::uint32_t row = row0 + static_cast<std::uint32_t>(i % kTileRows);
      if (row < rows()) asm volatile("prefetch.global.L2 [%0];" ::"l"(layer.input(i / kTileRows, column0, row)));
    }
  }

  // The tile at (row0, column0); with kBoth also the one half() columns further, to the next stage.
  template <bool kBoth>
  __device__ void load(std::uint32_t (*stages)[kTileSize], std::uint32_t row0, std::uint32_t column0) const {
    const TileVector first = first_vector();
    const std::uint32_t column = column0 + static_cast<std::uint32_t>(first.word * 2);
    const std::uint32_t row = row0 + static_cast<std::uint32_t>(first.row);
    const int place = tile_word(first.row, first.word);
    const bool inside = column < columns();
    const auto at = layer.at(inside ? column : 0);
    constexpr int kTogether = Layer::kTogether;
    const auto put = [&](int stage, int step, const uint4& vector) {
      *reinterpret_cast<uint4*>(stages[stage] + place + step * tile_word(kTileStepRows, 0)) = vector;
    };
#pragma unroll
    for (int i = 0; i < kTileSteps; i += kTogether) {
      typename Layer::Raw raw[kTogether];
#pragma unroll
      for (int k = 0; k < kTogether; ++k) {
        const std::uint32_t r = row + static_cast<std::uint32_t>((i + k) * kTileStepRows);
        if (inside && r < rows()) raw[k] = layer.fetch(at, r);
      }
#pragma unroll
      for (int k = 0; k < kTogether; ++k) {
        const std::uint32_t r = row + static_cast<std::uint32_t>((i + k) * kTileStepRows);
        const bool valid = inside && r < rows();
        if constexpr (kBoth) {
          uint4 both[2]{};
          if (valid) layer.finish_both(at, raw[k], both);
          put(0, i + k, both[0]);
          put(1, i + k, both[1]);
        } else {
          put(0, i + k, valid ? layer.finish(at, raw[k]) : uint4{});
        }
      }
    }
  }
};

}  // namespace ufp4::cuda
