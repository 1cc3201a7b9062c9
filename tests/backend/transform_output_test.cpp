// Rounding between transform and quantization: the bits of a rotated matrix that was stored in BF16.
#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "backend/every_backend.h"
#include "numerics/hadamard.h"

namespace ufp4 {
namespace {

using testing::quantize;

UFP4_EVERY_BACKEND(TransformOutput);

TEST_P(TransformOutput, RoundedToBf16IsAStoredRotation) {
  std::mt19937 random(31);
  std::normal_distribution<float> normal;
  testing::Matrix m(20, 96);
  m.fill([&] { return normal(random); });
  for (const char* format : {"nvfp4", "e1m2", "int4_p2"}) {
    for (const int size : {16, 32}) {
      QuantizeTask task = testing::task_of(format, Rounding::kStochastic, size);
      task.spec.hadamard.round_to_bf16 = true;
      testing::Matrix rotated(m.rows, m.columns, DType::kBF16);
      std::vector<float> run(static_cast<std::size_t>(size));
      for (std::int64_t r = 0; r < m.rows; ++r) {
        for (std::int64_t c = 0; c < m.columns; c += size) {
          for (std::size_t i = 0; i < run.size(); ++i) run[i] = m.get(r, c + static_cast<std::int64_t>(i));
          Hadamard unrounded = task.spec.hadamard;
          unrounded.round_to_bf16 = false;
          apply_hadamard(run, unrounded);
          for (std::size_t i = 0; i < run.size(); ++i) rotated.set(r, c + static_cast<std::int64_t>(i), run[i]);
        }
      }
      QuantizeTask plain = task;
      plain.spec.hadamard = {};
      const testing::Results expected = quantize(backend(), rotated.view(), plain);
      EXPECT_EQ(first_difference(quantize(backend(), m.view(), task), expected), "") << format << " " << size;
    }
  }
}

}  // namespace
}  // namespace ufp4
