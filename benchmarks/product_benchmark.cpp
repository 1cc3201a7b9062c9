// The BF16 product of every instruction set of this machine, by one thread and by two, with the contracted axis last
// and first in memory; and the INT8 product with one segment a row and with segments of 512.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <bit>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "cpu/int8_product.h"
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

struct Int8Memory {
  std::vector<std::int8_t> a, b;
  std::vector<float> scales, c;

  explicit Int8Memory(const Shape& shape)
      : a(static_cast<std::size_t>(shape.m * shape.k)),
        b(static_cast<std::size_t>(shape.n * shape.k)),
        scales(static_cast<std::size_t>(std::max(shape.m, shape.n) * (shape.k / 128 + 1)), 0.01F),
        c(static_cast<std::size_t>(shape.m * shape.n)) {
    std::mt19937 random(1);
    std::uniform_int_distribution<int> integer(-120, 120);
    for (auto* operand : {&a, &b}) {
      for (std::int8_t& value : *operand) value = static_cast<std::int8_t>(integer(random));
    }
  }
};

void register_int8(const ufp4::cpu::Int8ProductKernel& kernel, const Shape& shape, std::int64_t segment) {
  const std::string name = std::string("INT8/") + kernel.name + "/" + std::to_string(shape.m) + "x" +
                           std::to_string(shape.n) + "x" + std::to_string(shape.k) + "/" +
                           (segment == 0 ? "row" : std::to_string(segment));
  const auto memory = std::make_shared<Int8Memory>(shape);
  ufp4::Int8Product product;
  product.m = shape.m;
  product.n = shape.n;
  product.k = shape.k;
  product.segment = segment;
  product.result = ufp4::Int8Result::kF32;
  const std::int64_t segments = segments_of(product, shape.k);
  product.a = {memory->a.data(), shape.k, memory->scales.data(), segments, 1};
  product.b = {memory->b.data(), shape.k, memory->scales.data(), segments, 1};
  product.out = memory->c.data();
  product.out_row_stride = shape.n;
  const auto run = [kernel, product, memory](benchmark::State& state) {
    const ProductTiles tiles = ufp4::cpu::split_int8_product(product.m, product.n);
    for (auto _ : state) {
      for (std::int64_t tile = state.thread_index(); tile < tiles.count(); tile += state.threads()) {
        kernel.multiply(product, tiles[tile]);
      }
    }
    const double operations = 2.0 * static_cast<double>(product.m * product.n) * static_cast<double>(product.k);
    state.counters["OP/s"] = benchmark::Counter(operations * static_cast<double>(state.iterations()) / state.threads(),
                                                benchmark::Counter::kIsRate);
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
  for (const ufp4::cpu::Int8ProductKernel& kernel : ufp4::cpu::int8_product_kernels()) {
    if (!kernel.available) continue;
    for (const Shape& shape : {Shape{1024, 512, 2048}, Shape{2048, 512, 4096}, Shape{352, 128, 512}}) {
      for (const std::int64_t segment : {0, 512}) register_int8(kernel, shape, segment);
    }
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
