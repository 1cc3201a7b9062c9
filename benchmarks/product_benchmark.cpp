// The BF16 product of every instruction set of this machine, by one thread and by two, with the contracted axis last
// and first in memory.
#include <benchmark/benchmark.h>

#include <bit>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "cpu/product.h"

namespace {

using ufp4::cpu::Product;
using ufp4::cpu::ProductKernel;
using ufp4::cpu::ProductOperand;
using ufp4::cpu::ProductTiles;

struct Shape {
  std::int64_t m, n, k;
};

struct Memory {
  std::vector<std::uint16_t> a, b;
  std::vector<float> c;

  explicit Memory(const Shape& shape)
      : a(static_cast<std::size_t>(shape.m * shape.k)),
        b(static_cast<std::size_t>(shape.n * shape.k)),
        c(static_cast<std::size_t>(shape.m * shape.n)) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    for (auto* operand : {&a, &b}) {
      for (std::uint16_t& bits : *operand) {
        bits = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(normal(random)) >> 16);
      }
    }
  }
};

void register_case(const ProductKernel& kernel, const Shape& shape, ProductOperand::Contracted contracted) {
  const bool rows = contracted == ProductOperand::Contracted::kRows;
  const std::string name = std::string(kernel.name) + "/" + std::to_string(shape.m) + "x" + std::to_string(shape.n) +
                           "x" + std::to_string(shape.k) + (rows ? "/first" : "/last");
  const auto memory = std::make_shared<Memory>(shape);
  const Product product{shape.m,
                        shape.n,
                        shape.k,
                        {memory->a.data(), rows ? shape.m : shape.k, contracted},
                        {memory->b.data(), rows ? shape.n : shape.k, contracted},
                        memory->c.data(),
                        shape.n};
  const auto run = [kernel, product, memory](benchmark::State& state) {
    const ProductTiles tiles = ufp4::cpu::split_product(product.m, product.n);
    for (auto _ : state) {
      for (std::int64_t tile = state.thread_index(); tile < tiles.count(); tile += state.threads()) {
        kernel.multiply(product, tiles[tile]);
      }
    }
    const double operations = 2.0 * static_cast<double>(product.m * product.n) * static_cast<double>(product.k);
    // Of all threads together: each one counts its share.
    state.counters["FLOP/s"] = benchmark::Counter(
        operations * static_cast<double>(state.iterations()) / state.threads(), benchmark::Counter::kIsRate);
  };
  for (const int threads : {1, 2}) {
    benchmark::RegisterBenchmark(name.c_str(), run)->Threads(threads)->UseRealTime()->Unit(benchmark::kMillisecond);
  }
}

}  // namespace

int main(int argc, char** argv) {
  for (const ProductKernel& kernel : ufp4::cpu::product_kernels()) {
    if (!kernel.available) continue;
    for (const Shape& shape : {Shape{1024, 512, 2048}, Shape{2048, 512, 4096}, Shape{344, 128, 512}}) {
      register_case(kernel, shape, ProductOperand::Contracted::kColumns);
      register_case(kernel, shape, ProductOperand::Contracted::kRows);
    }
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
