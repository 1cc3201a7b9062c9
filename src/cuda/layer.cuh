// The arithmetic of the layers, eight neighbouring values of a row at a time. Each layer is a plain struct with
//   Column at(column): what it needs of a column of vectors, which rows share;
//   Raw fetch(column, row): the loads; uint4 finish(column, raw): eight BF16 values of its result;
//   const void* input(i, column, row): where the i-th of its kInputs inputs lies, 128 bytes of each row of a tile.
// Pairs: a value and the one half() columns further, of every 2 half() columns, are made of the same inputs, and
// finish_both(column, raw, result) makes both of what fetch gives for the first. Kernels that write the result and
// kernels that quantize it call the same functions: the bits cannot differ.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "cuda/launch.h"
#include "cuda/layers.h"

namespace ufp4::cuda {

__device__ inline float low_value(std::uint32_t word) { return __uint_as_float(word << 16); }
__device__ inline float high_value(std::uint32_t word) { return __uint_as_float(word & 0xFFFF0000u); }

__device__ inline std::uint32_t round_pair(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const std::uint32_t*>(&pair);
}

__device__ inline uint4 load_vector(const Bf16* from) { return __ldg(reinterpret_cast<const uint4*>(from)); }

// f(a, b) of the values in two words, for each of eight.
template <typename F>
__device__ inline uint4 map_pairs(uint4 a, uint4 b, F f) {
  const auto word = [&](std::uint32_t x, std::uint32_t y) {
    return round_pair(f(low_value(x), low_value(y)), f(high_value(x), high_value(y)));
  };
  return {word(a.x, b.x), word(a.y, b.y), word(a.z, b.z), word(a.w, b.w)};
}

// 1 / (1 + exp(-x)).
__device__ inline float sigmoid(float x) {
  float power;
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x * -1.44269504F));
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(power + 1.0F));
  return result;
}

__device__ inline float swiglu_value(float gate, float up) { return gate * sigmoid(gate) * up; }

__device__ inline float gate_gradient(float gate, float s, float up, float dy) {
  const float slope = __fmaf_rn(gate * s, 1.0F - s, s);  // of silu: s + silu (1 - s), s = sigmoid(gate)
  return dy * up * slope;
}

__device__ inline float up_gradient(float gate, float s, float dy) { return dy * (gate * s); }

// Of eight neighbouring pairs in a head of `size` values, from the table of a token.
struct Angles {
  float4 cos[2], sin[2];
};
__device__ inline Angles load_angles(const float* from, std::int64_t size) {
  const auto* cos = reinterpret_cast<const float4*>(from);
  const float4* sin = cos + size / 8;
  return {{__ldg(cos), __ldg(cos + 1)}, {__ldg(sin), __ldg(sin + 1)}};
}

// x cos + direction y sin: of pairs (a, b) that are turned back, the first with (a, b, .., 1) and the second with
// (b, a, .., -1); of such that are turned, with the other direction.
__device__ inline uint4 turned(const uint4& x, const uint4& y, const Angles& by, float direction) {
  const auto word = [&](std::uint32_t a, std::uint32_t b, float cos0, float cos1, float sin0, float sin1) {
    return round_pair(low_value(a) * cos0 + low_value(b) * (direction * sin0),
                      high_value(a) * cos1 + high_value(b) * (direction * sin1));
  };
  return {word(x.x, y.x, by.cos[0].x, by.cos[0].y, by.sin[0].x, by.sin[0].y),
          word(x.y, y.y, by.cos[0].z, by.cos[0].w, by.sin[0].z, by.sin[0].w),
          word(x.z, y.z, by.cos[1].x, by.cos[1].y, by.sin[1].x, by.sin[1].y),
          word(x.w, y.w, by.cos[1].z, by.cos[1].w, by.sin[1].z, by.sin[1].w)};
}

struct RmsNormLayer {
  RmsNorm p;

  static constexpr Pairs kPairs = Pairs::kNone;
  static constexpr int kInputs = 1;
  static constexpr int kTogether = 4;  // vectors that a thread loads before it works on the first
  struct Column {
    const Bf16* x;
    float4 weight[2];
  };
  struct Raw {
    uint4 x;
    float rstd;
  };
  __host__ __device__ std::int64_t rows() const { return p.rows; }
  __host__ __device__ std::int64_t columns() const { return p.columns; }
  __device__ const void* input(int /*i*/, std::uint32_t column, std::uint32_t row) const {
    return p.x + row * p.columns + column;
  }
  __device__ Column at(std::uint32_t column) const {
    const auto* weight = reinterpret_cast<const float4*>(p.weight + column);
    return {p.x + column, {__ldg(weight), __ldg(weight + 1)}};
  }
  __device__ Raw fetch(const Column& c, std::uint32_t row) const {
    return {load_vector(c.x + row * p.columns), __ldg(p.rstd + row)};
  }
  __device__ uint4 finish(const Column& c, const Raw& raw) const {
    const auto word = [&](std::uint32_t x, float low, float high) {
      return round_pair(low_value(x) * raw.rstd * low, high_value(x) * raw.rstd * high);
    };
    return {word(raw.x.x, c.weight[0].x, c.weight[0].y), word(raw.x.y, c.weight[0].z, c.weight[0].w),
            word(raw.x.z, c.weight[1].x, c.weight[1].y), word(raw.x.w, c.weight[1].z, c.weight[1].w)};
  }
};

struct SwigluLayer {
  Swiglu p;

  static constexpr Pairs kPairs = Pairs::kNone;
  static constexpr int kInputs = 2;
  static constexpr int kTogether = 2;
  struct Column {
    const Bf16* gate;
  };
  struct Raw {
    uint4 gate, up;
  };
  __host__ __device__ std::int64_t rows() const { return p.rows; }
  __host__ __device__ std::int64_t columns() const { return p.columns; }
  __device__ const void* input(int i, std::uint32_t column, std::uint32_t row) const {
    return p.h + (row * 2 + i) * p.columns + column;
  }
  __device__ Column at(std::uint32_t column) const { return {p.h + column}; }
  __device__ Raw fetch(const Column& c, std::uint32_t row) const {
    const Bf16* gate = c.gate + row * 2 * p.columns;
    return {load_vector(gate), load_vector(gate + p.columns)};
  }
  __device__ uint4 finish(const Column& /*c*/, const Raw& raw) const {
    return map_pairs(raw.gate, raw.up, swiglu_value);
  }
};

struct RoundedLayer {
  Rounded p;

  static constexpr Pairs kPairs = Pairs::kNone;
  static constexpr int kInputs = 2;
  static constexpr int kTogether = 2;
  struct Column {
    const float* x;
  };
  struct Raw {
    float4 low, high;
  };
  __host__ __device__ std::int64_t rows() const { return p.rows; }
  __host__ __device__ std::int64_t columns() const { return p.columns; }
  __device__ const void* input(int i, std::uint32_t column, std::uint32_t row) const {
    return p.x + row * p.columns +
           min(column + static_cast<std::uint32_t>(i) * 32u, static_cast<std::uint32_t>(p.columns) - 8u);
  }
  __device__ Column at(std::uint32_t column) const { return {p.x + column}; }
  __device__ Raw fetch(const Column& c, std::uint32_t row) const {
    const auto* from = reinterpret_cast<const float4*>(c.x + row * p.columns);
    return {__ldg(from), __ldg(from + 1)};
  }
  __device__ uint4 finish(const Column& /*c*/, const Raw& raw) const {
    return {round_pair(raw.low.x, raw.low.y), round_pair(raw.low.z, raw.low.w), round_pair(raw.high.x, raw.high.y),
            round_pair(raw.high.z, raw.high.w)};
  }
};

struct RotaryBackwardLayer {
  RotaryBackward p;
  // 2^32 / tokens, rounded up: the upper half of its product with a row is row / tokens.
  std::uint32_t reciprocal =
      p.tokens == 1 ? 0 : static_cast<std::uint32_t>(((std::int64_t{1} << 32) + p.tokens - 1) / p.tokens);

  static constexpr Pairs kPairs = Pairs::kHeads;
  static constexpr int kInputs = 2;  // a value and the other of its pair
  static constexpr int kTogether = 2;
  struct Column {
    const Bf16* own;
    const Bf16* other;
    std::int64_t token_stride;
    const float* cos;  // of the first token, and null where nothing is turned
    float direction;
  };
  struct Raw {
    uint4 own, other;
    std::uint32_t angles;  // of the token in the table, which is in the caches
  };
  __host__ __device__ std::int64_t rows() const { return p.rows; }
  __host__ __device__ std::int64_t columns() const { return p.columns; }
  __host__ __device__ std::int64_t half() const { return p.size / 2; }
  __device__ const void* input(int i, std::uint32_t column, std::uint32_t row) const {
    const Column c = at(column);
    return (i == 0 ? c.own : c.other) + row * c.token_stride;
  }
  __device__ Column at(std::uint32_t column) const {
    const auto size = static_cast<std::uint32_t>(p.size);
    const std::uint32_t half = size / 2;
    std::uint32_t head = column / size;
    const std::uint32_t within = column - head * size;
    int number = 0;
    while (head >= p.parts[number].heads) head -= static_cast<std::uint32_t>(p.parts[number++].heads);
    const RotaryPart& part = p.parts[number];
    const auto* from = static_cast<const Bf16*>(part.from) + head * part.head_stride;
    const bool first = within < half;
    const std::uint32_t pair = first ? within : within - half;
    return {from + within, from + (first ? within + half : pair), part.token_stride,
            part.turned ? p.table + pair : nullptr, first ? 1.0F : -1.0F};
  }
  __device__ Raw fetch(const Column& c, std::uint32_t row) const {
    Raw raw{load_vector(c.own + row * c.token_stride), load_vector(c.other + row * c.token_stride), 0};
    const std::uint32_t sequence = p.tokens == 1 ? row : __umulhi(row, reciprocal);
    raw.angles = (row - sequence * static_cast<std::uint32_t>(p.tokens)) * static_cast<std::uint32_t>(p.size);
    return raw;
  }
  __device__ uint4 finish(const Column& c, const Raw& raw) const {
    return c.cos == nullptr ? raw.own : turned(raw.own, raw.other, angles_of(c, raw), c.direction);
  }
  __device__ void finish_both(const Column& c, const Raw& raw, uint4 (&result)[2]) const {
    if (c.cos == nullptr) {
      result[0] = raw.own;
      result[1] = raw.other;
      return;
    }
    const Angles angles = angles_of(c, raw);
    result[0] = turned(raw.own, raw.other, angles, 1.0F);
    result[1] = turned(raw.other, raw.own, angles, -1.0F);
  }

 private:
  __device__ Angles angles_of(const Column& c, const Raw& raw) const { return load_angles(c.cos + raw.angles, p.size); }
};

struct SwigluBackwardLayer {
  SwigluBackward p;

  static constexpr Pairs kPairs = Pairs::kHalves;
  static constexpr int kInputs = 3;
  static constexpr int kTogether = 2;
  struct Column {
    const Bf16* gate;
    const Bf16* dy;
    bool of_up;
  };
  struct Raw {
    uint4 gate, up, dy;
  };
  __host__ __device__ std::int64_t rows() const { return p.rows; }
  __host__ __device__ std::int64_t columns() const { return 2 * p.columns; }
  __host__ __device__ std::int64_t half() const { return p.columns; }
  __device__ const void* input(int i, std::uint32_t column, std::uint32_t row) const {
    const std::int64_t within = column >= p.columns ? column - p.columns : column;
    return i < 2 ? p.h + (row * 2 + i) * p.columns + within : p.dy + row * p.columns + within;
  }
  __device__ Column at(std::uint32_t column) const {
    const bool of_up = column >= p.columns;
    const std::int64_t within = of_up ? column - p.columns : column;
    return {p.h + within, p.dy + within, of_up};
  }
  __device__ Raw fetch(const Column& c, std::uint32_t row) const {
    const Bf16* gate = c.gate + row * 2 * p.columns;
    return {load_vector(gate), c.of_up ? uint4{} : load_vector(gate + p.columns), load_vector(c.dy + row * p.columns)};
  }
  __device__ uint4 finish(const Column& c, const Raw& raw) const {
    uint4 result[2];
    finish_both(c, raw, result);
    return c.of_up ? result[1] : result[0];
  }
  __device__ void finish_both(const Column& /*c*/, const Raw& raw, uint4 (&result)[2]) const {
    const auto word = [](std::uint32_t gate, std::uint32_t up, std::uint32_t dy, std::uint32_t& of_gate,
                         std::uint32_t& of_up) {
      const float low = sigmoid(low_value(gate));
      const float high = sigmoid(high_value(gate));
      of_gate = round_pair(gate_gradient(low_value(gate), low, low_value(up), low_value(dy)),
                           gate_gradient(high_value(gate), high, high_value(up), high_value(dy)));
      of_up = round_pair(up_gradient(low_value(gate), low, low_value(dy)),
                         up_gradient(high_value(gate), high, high_value(dy)));
    };
    word(raw.gate.x, raw.up.x, raw.dy.x, result[0].x, result[1].x);
    word(raw.gate.y, raw.up.y, raw.dy.y, result[0].y, result[1].y);
    word(raw.gate.z, raw.up.z, raw.dy.z, result[0].z, result[1].z);
    word(raw.gate.w, raw.up.w, raw.dy.w, result[0].w, result[1].w);
  }
};

}  // namespace ufp4::cuda
