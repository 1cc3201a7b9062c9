// Tasks for tests, without results, and words for them.
#pragma once

#include <array>
#include <random>
#include <span>
#include <string>
#include <string_view>

#include "quantization/matrix.h"
#include "ufp4/backend.h"
#include "ufp4/quantize.h"

namespace ufp4::testing {

inline constexpr std::array kTypes{DType::kF32, DType::kBF16, DType::kF16};
inline constexpr std::array kRoundings{Rounding::kNearest, Rounding::kStochastic};
inline constexpr std::array kAxes{Axis::kRow, Axis::kColumn};

// Whether a format has blocks of this size: those that choose something have blocks of their own size only.
bool has_block(const BlockFormat& format, int block);

// A task with a seed, a step and a stream, and a transform with signs of its own.
QuantizeTask task_of(const BlockFormat& format, Rounding rounding = Rounding::kNearest, int hadamard = 0,
                     Axis axis = Axis::kRow, int block = 0);
QuantizeTask task_of(std::string_view format, Rounding rounding = Rounding::kNearest, int hadamard = 0,
                     Axis axis = Axis::kRow, int block = 0);

// Any valid one, of any of these formats.
QuantizeTask random_task(std::mt19937& random, std::span<const BlockFormat> among);
QuantizeTask random_task(std::mt19937& random);

DType random_dtype(std::mt19937& random);

// "int4_p2 outer row tau 1 block 16 hadamard 32 sr column offsets 5, 16 of bf16 [3, 40] stride 41".
std::string describe(const ConstMatrix& in, const QuantizeTask& task);

}  // namespace ufp4::testing
