// What the kernel of segments quantizes: how its tiles of 64 rows by 512 columns of two bytes come into shared memory.
// All threads of a block call load together, and wait for each other. kAsync: and for their copies.
#pragma once

#include <cuda_pipeline_primitives.h>

#include "cuda/launch.h"
#include "cuda/layer.cuh"
#include "cuda/operand.h"
#include "cuda/values.cuh"

namespace ufp4::cuda {

inline constexpr int kSegmentWords = kSegmentColumns / 2;  // of a row
// Words after each 16 rows, so that the four runs of a column lie in different banks.
inline constexpr int kSegmentPad = 8;
inline constexpr int kSegmentTileSize = kSegmentRows * kSegmentWords + kSegmentRows / kRun * kSegmentPad;
inline constexpr int kSegmentVectors = kSegmentWords / 4;                   // in a row
inline constexpr int kSegmentStepRows = kSegmentThreads / kSegmentVectors;  // that the block loads at a time
inline constexpr int kSegmentSteps = kSegmentRows / kSegmentStepRows;

// Where a word lies. The vectors of 16 bytes of every other four runs are swapped, so that eight lanes that read the
// same half of their runs read from all banks.
__device__ constexpr int segment_word(int row, int word) {
  return row * kSegmentWords + static_cast<int>(static_cast<unsigned>(row) / kRun) * kSegmentPad +
         (word ^ ((word >> 5 & 1) << 2));
}

// A matrix in memory, copied asynchronously. What lies beyond it becomes zero.
template <DType kInput>
struct SegmentMatrix {
  static constexpr DType kType = kInput;
  static constexpr bool kAsync = true;
  Matrix in;

  __host__ std::int64_t rows() const { return in.rows; }
  __host__ std::int64_t columns() const { return in.columns; }

  __device__ void load(std::uint32_t* tile, std::uint32_t row0, std::uint32_t column0) const {
    using Element = typename Values<kType>::Element;
    static_assert(sizeof(Element) == 2);
    constexpr unsigned kPerVector = 8;
    const unsigned vector = threadIdx.x % kSegmentVectors;
    const unsigned first = threadIdx.x / kSegmentVectors;
    const std::uint32_t column = column0 + vector * kPerVector;
    const int word = static_cast<int>(vector) * 4;
    const auto* from = static_cast<const Element*>(in.data) + (row0 + first) * in.row_stride + column;
    const std::int64_t step = kSegmentStepRows * in.row_stride;
    if (in.vector_rows && column + kPerVector <= in.columns) {
#pragma unroll
      for (int i = 0; i < kSegmentSteps; ++i) {
        const int row = static_cast<int>(first) + i * kSegmentStepRows;
        const bool inside = row0 + static_cast<std::uint32_t>(row) < in.rows;
        __pipeline_memcpy_async(tile + segment_word(row, word), inside ? from : in.data, 16, inside ? 0 : 16);
        from += step;
      }
      return;
    }
    const unsigned valid = column < in.columns ? min(in.columns - column, kPerVector) : 0;
#pragma unroll 1
    for (int i = 0; i < kSegmentSteps; ++i) {
      const int row = static_cast<int>(first) + i * kSegmentStepRows;
      auto* elements = reinterpret_cast<Element*>(tile + segment_word(row, word));
      const bool inside = row0 + static_cast<std::uint32_t>(row) < in.rows;
#pragma unroll 1
      for (unsigned k = 0; k < kPerVector; ++k) elements[k] = inside && k < valid ? from[k] : Element{};
      from += step;
    }
  }
};

// The result of a layer, made of its inputs while they are loaded.
template <typename Layer>
struct SegmentLayer {
  static constexpr DType kType = DType::kBF16;
  static constexpr bool kAsync = false;
  Layer layer;

  __host__ __device__ std::int64_t rows() const { return layer.rows(); }
  __host__ __device__ std::int64_t columns() const { return layer.columns(); }

  // Asks for the inputs of a tile, so that its load finds them in the cache.
  __device__ void prefetch(std::uint32_t row0, std::uint32_t column0) const {
    constexpr int kLines = kSegmentColumns / 64;
    for (int i = static_cast<int>(threadIdx.x); i < Layer::kInputs * kSegmentRows * kLines; i += kSegmentThreads) {
      const std::uint32_t row = row0 + static_cast<std::uint32_t>(i / kLines % kSegmentRows);
      const std::uint32_t column = column0 + static_cast<std::uint32_t>(i % kLines) * 64u;
      if (row >= rows() || column >= columns()) continue;
      asm volatile("prefetch.global.L2 [%0];" ::"l"(layer.input(i / (kLines * kSegmentRows), column, row)));
    }
  }

  __device__ void load(std::uint32_t* tile, std::uint32_t row0, std::uint32_t column0) const {
    const unsigned vector = threadIdx.x % kSegmentVectors;
    const unsigned first = threadIdx.x / kSegmentVectors;
    const std::uint32_t column = column0 + vector * 8;
    const int word = static_cast<int>(vector) * 4;
    const bool inside = column < columns();
    const auto at = layer.at(inside ? column : 0);
    constexpr int kTogether = Layer::kTogether;
#pragma unroll
    for (int i = 0; i < kSegmentSteps; i += kTogether) {
      typename Layer::Raw raw[kTogether];
#pragma unroll
      for (int k = 0; k < kTogether; ++k) {
        const std::uint32_t row = row0 + first + static_cast<std::uint32_t>((i + k) * kSegmentStepRows);
        if (inside && row < rows()) raw[k] = layer.fetch(at, row);
      }
#pragma unroll
      for (int k = 0; k < kTogether; ++k) {
        const int row = static_cast<int>(first) + (i + k) * kSegmentStepRows;
        const bool valid = inside && row0 + static_cast<std::uint32_t>(row) < rows();
        *reinterpret_cast<uint4*>(tile + segment_word(row, word)) = valid ? layer.finish(at, raw[k]) : uint4{};
      }
    }
  }
};

}  // namespace ufp4::cuda
