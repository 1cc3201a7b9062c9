// Quantizes a normally distributed matrix to every 4-bit format and prints how much of the signal survives.
#include <ufp4/backend.h>

#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

int main() {
  constexpr std::int64_t kRows = 512;
  constexpr std::int64_t kColumns = 1024;
  std::vector<float> matrix(kRows * kColumns);
  std::mt19937 engine(1);
  std::normal_distribution<float> normal;
  for (float& value : matrix) value = normal(engine);

  const ufp4::Backend& backend = ufp4::default_backend();
  for (const ufp4::BlockFormat& format : ufp4::formats()) {
    ufp4::QuantizeTask task;
    task.spec.format = &format;
    std::vector<float> quantized(matrix.size());
    task.out.dequantized = quantized.data();
    task.out.dequantized_dtype = ufp4::DType::kF32;
    backend.quantize({matrix.data(), ufp4::DType::kF32, kRows, kColumns, kColumns}, {&task, 1});

    double signal = 0;
    double noise = 0;
    for (std::size_t i = 0; i < matrix.size(); ++i) {
      signal += std::pow(matrix[i], 2);
      noise += std::pow(quantized[i] - matrix[i], 2);
    }
    std::printf("%-10.*s SQNR %.2f dB\n", static_cast<int>(format.name.size()), format.name.data(),
                10 * std::log10(signal / noise));
  }
}
