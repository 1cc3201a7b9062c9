// The figures at the end of docs/numerics.md, measured there with an independent program: quantization noise, bias and
// use of the codes on normal and SwiGLU-like data.
#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cmath>
#include <random>
#include <vector>

#include "backend/every_backend.h"

namespace ufp4 {
namespace {

using testing::Matrix;
using testing::quantize;

UFP4_EVERY_BACKEND(Figures);

constexpr std::int64_t kRows = 1024;
constexpr std::int64_t kColumns = 2048;

Matrix normal_data() {
  std::mt19937 random(21);
  std::normal_distribution<float> normal;
  Matrix m(kRows, kColumns);
  m.fill([&] { return normal(random); });
  return m;
}

// silu(a) * b with a and b normal.
Matrix swiglu_data() {
  std::mt19937 random(22);
  std::normal_distribution<float> normal;
  Matrix m(kRows, kColumns);
  m.fill([&] {
    const float a = normal(random);
    return a / (1 + std::exp(-a)) * normal(random);
  });
  return m;
}

struct Figure {
  double sqnr_db = 0;
  double alpha = 0;
  double bucket_use = 0;  // exp(entropy of the codes) / number of distinct values
};

Figure measure(const Backend& backend, const Matrix& m, std::string_view format, int hadamard) {
  const QuantizeTask task = testing::task_of(format, Rounding::kNearest, hadamard);
  const testing::Results found = quantize(backend, m.view(), task);
  const Signs signs = signs_of(task.spec, task.place);
  // The transform is orthogonal: noise and products are measured against the transformed values.
  std::array<double, 16> count{};
  double energy = 0;
  double noise = 0;
  double product = 0;
  std::vector<float> run(static_cast<std::size_t>(hadamard == 0 ? 16 : hadamard));
  for (std::int64_t r = 0; r < m.rows; ++r) {
    for (std::int64_t c = 0; c < m.columns; c += static_cast<std::int64_t>(run.size())) {
      for (std::size_t i = 0; i < run.size(); ++i) run[i] = m.get(r, c + static_cast<std::int64_t>(i));
      if (hadamard != 0) {
        std::vector<double> signed_values;
        for (std::size_t i = 0; i < run.size(); ++i) {
          const bool flip = ((signs[i / 32] >> (i % 32)) & 1u) != 0;
          signed_values.push_back(static_cast<double>(flip ? -run[i] : run[i]));
        }
        for (std::size_t j = 0; j < run.size(); ++j) {
          double sum = 0;
          for (std::size_t i = 0; i < run.size(); ++i)
            sum += std::popcount(i & j) % 2 == 0 ? signed_values[i] : -signed_values[i];
          run[j] = static_cast<float>(sum / std::sqrt(static_cast<double>(run.size())));
        }
      }
      for (std::size_t i = 0; i < run.size(); ++i) {
        const auto at = c + static_cast<std::int64_t>(i);
        const auto x = static_cast<double>(run[i]);
        const auto y = static_cast<double>(found.value(r, at));
        energy += x * x;
        noise += (y - x) * (y - x);
        product += x * y;
        count[found.code(r, at)] += 1;
      }
    }
  }
  double entropy = 0;
  for (const double n : count) {
    const double p = n / static_cast<double>(m.rows * m.columns);
    if (p > 0) entropy -= p * std::log(p);
  }
  return {-10 * std::log10(noise / energy), product / energy, std::exp(entropy) / 15};
}

TEST_P(Figures, NormalData) {
  const Matrix m = normal_data();
  const Figure e1m2 = measure(backend(), m, "e1m2", 0);
  EXPECT_NEAR(e1m2.sqnr_db, 21.39, 0.03);
  EXPECT_NEAR(e1m2.alpha, 1.0006, 0.0003);
  const Figure e2m1 = measure(backend(), m, "e2m1", 0);
  EXPECT_NEAR(e2m1.sqnr_db, 20.53, 0.03);
  EXPECT_NEAR(e2m1.alpha, 0.9959, 0.0003);
  EXPECT_NEAR(measure(backend(), m, "e2m1_max4", 0).sqnr_db, 20.25, 0.03);
  EXPECT_NEAR(measure(backend(), m, "e2m1_max3", 0).sqnr_db, 18.83, 0.03);
  EXPECT_NEAR(measure(backend(), m, "e2m1_max2", 0).sqnr_db, 16.53, 0.03);
  const Figure full = measure(backend(), m, "int4_full", 0);
  EXPECT_NEAR(full.sqnr_db, 22.44, 0.03);
  EXPECT_NEAR(full.alpha, 1.0005, 0.0003);
}

TEST_P(Figures, SwigluDataBeforeAndAfterTheTransform) {
  const Matrix m = swiglu_data();
  const Figure e1m2 = measure(backend(), m, "e1m2", 0);
  const Figure e1m2_rotated = measure(backend(), m, "e1m2", 16);
  EXPECT_NEAR(e1m2.sqnr_db, 18.71, 0.05);
  EXPECT_NEAR(e1m2_rotated.sqnr_db, 22.73, 0.05);
  EXPECT_NEAR(e1m2.bucket_use, 0.52, 0.01);
  EXPECT_NEAR(e1m2_rotated.bucket_use, 0.96, 0.01);
  EXPECT_NEAR(measure(backend(), m, "e2m1", 0).sqnr_db, 21.13, 0.05);
  EXPECT_NEAR(measure(backend(), m, "e2m1", 16).sqnr_db, 20.06, 0.05);
  EXPECT_NEAR(measure(backend(), m, "int4_full", 16).sqnr_db, 23.69, 0.05);
}

}  // namespace
}  // namespace ufp4
