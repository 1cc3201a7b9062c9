#include "model/initial_weights.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include <cmath>
#include <numbers>

#include "numerics/philox.h"

namespace ufp4 {
namespace {

// FNV-1a, 64 bits.
std::uint64_t hash(std::string_view name) {
  std::uint64_t value = 0xCBF29CE484222325u;
  for (const char c : name) value = (value ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
  return value;
}

}  // namespace

at::Tensor normal_weight(at::IntArrayRef shape, double deviation, std::uint64_t seed, std::string_view name) {
  at::Tensor weight = at::empty(shape, at::kFloat);
  float* values = weight.mutable_data_ptr<float>();
  const std::int64_t count = weight.numel();
  const std::uint64_t stream = hash(name);
  const philox::Key key = philox::make_key(seed);
  // The four words of a counter give two pairs of uniforms, and each pair two normals.
  at::parallel_for(0, (count + 3) / 4, 4096, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t group = begin; group < end; ++group) {
      const philox::Counter words =
          philox::generate({static_cast<std::uint32_t>(group), static_cast<std::uint32_t>(group >> 32),
                            static_cast<std::uint32_t>(stream), static_cast<std::uint32_t>(stream >> 32)},
                           key);
      for (std::int64_t pair = 0; pair < 2; ++pair) {
        const auto at = static_cast<std::size_t>(2 * pair);
        const double radius = deviation * std::sqrt(-2 * std::log((words[at] + 0.5) * 0x1p-32));
        const double angle = 2 * std::numbers::pi * (words[at + 1] + 0.5) * 0x1p-32;
        const std::int64_t i = 4 * group + 2 * pair;
        if (i < count) values[i] = static_cast<float>(radius * std::cos(angle));
        if (i + 1 < count) values[i + 1] = static_cast<float>(radius * std::sin(angle));
      }
    }
  });
  return weight;
}

}  // namespace ufp4
