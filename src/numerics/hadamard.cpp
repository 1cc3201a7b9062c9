#include "numerics/hadamard.h"

#include <string>

#include "numerics/philox.h"
#include "ufp4/dtype.h"
#include "ufp4/error.h"

namespace ufp4 {

float hadamard_scale(int n) {
  switch (n) {
    case 16: return 0.25F;
    case 32: return 0.17677669529663687F;
    case 64: return 0.125F;
    case 128: return 0.088388347648318447F;
    default: throw InputError("Hadamard size " + std::to_string(n) + " is not one of 0, 16, 32, 64, 128");
  }
}

Signs hadamard_signs(int size, std::uint64_t seed) {
  if (size == 0) return {};
  hadamard_scale(size);  // checks the size
  Signs signs = philox::generate({0, 0, 0, 0xFFFFFFFFu}, philox::make_key(seed));
  for (int word = 0; word < 4; ++word) {
    const int bits = size - 32 * word;
    if (bits < 32) signs[static_cast<std::size_t>(word)] &= bits <= 0 ? 0u : (1u << bits) - 1u;
  }
  return signs;
}

Hadamard make_hadamard(int size, std::uint64_t seed) {
  return size == 0 ? Hadamard{} : Hadamard{size, hadamard_signs(size, seed)};
}

Signs signs_of(const OperandSpec& spec, const Place& place) {
  return spec.hadamard.signs.value_or(hadamard_signs(spec.hadamard.size, place.seed));
}

void apply_hadamard(std::span<float> run, const Hadamard& hadamard, std::uint64_t seed) {
  const auto n = static_cast<std::size_t>(hadamard.size);
  if (n == 0) return;
  const Signs signs = hadamard.signs.value_or(hadamard_signs(hadamard.size, seed));
  for (std::size_t i = 0; i < n; ++i) {
    if ((signs[i / 32] >> (i % 32)) & 1u) run[i] = -run[i];
  }
  for (std::size_t stride = 1; stride < n; stride *= 2) {
    for (std::size_t i = 0; i < n; ++i) {
      if (i & stride) continue;
      const float a = run[i];
      const float b = run[i + stride];
      run[i] = a + b;
      run[i + stride] = a - b;
    }
  }
  const float scale = hadamard_scale(hadamard.size);
  for (std::size_t i = 0; i < n; ++i) run[i] *= scale;
  if (!hadamard.round_to_bf16) return;
  for (std::size_t i = 0; i < n; ++i) run[i] = bf16_to_float(float_to_bf16(run[i]));
}

}  // namespace ufp4
