// Rounding between transform and quantization: the bits of a rotated matrix that was stored in BF16.
#include <gtest/gtest.h>

#include <random>

#include "backend/operand.h"
#include "numerics/hadamard.h"

namespace ufp4 {
namespace {

UFP4_EVERY_BACKEND(TransformOutput);

TEST_P(TransformOutput, RoundedToBf16IsAStoredRotation) {
  std::mt19937 random(31);
  std::normal_distribution<float> normal;
  Matrix m(20, 96);
  for (float& value : m.f32) value = normal(random);
  for (const char* format : {"nvfp4", "e1m2", "int4_p2"}) {
    for (const int size : {16, 32}) {
      QuantizeSpec spec = spec_of(format, Rounding::kStochastic, size);
      spec.hadamard.round_to_bf16 = true;
      Matrix rotated(m.rows, m.columns, DType::kBF16);
      std::vector<float> run(static_cast<std::size_t>(size));
      for (std::int64_t r = 0; r < m.rows; ++r) {
        for (std::int64_t c = 0; c < m.columns; c += size) {
          for (std::size_t i = 0; i < run.size(); ++i) run[i] = m.get(r, c + static_cast<std::int64_t>(i));
          Hadamard unrounded = spec.hadamard;
          unrounded.round_to_bf16 = false;
          apply_hadamard(run, unrounded);
          for (std::size_t i = 0; i < run.size(); ++i) rotated.set(r, c + static_cast<std::int64_t>(i), run[i]);
        }
      }
      QuantizeSpec plain = spec;
      plain.hadamard = {};
      EXPECT_TRUE(same_bits(quantize(backend(), m.view(), spec), quantize(backend(), rotated.view(), plain)))
          << format << " " << size;
    }
  }
}

}  // namespace
}  // namespace ufp4
