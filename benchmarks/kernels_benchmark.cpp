// Every standard case on every backend of this machine, and memcpy for comparison. The shares of memcpy that the
// documentation quotes come from `ufp4 bench`, which runs both by turns.
#include <benchmark/benchmark.h>

#include <string>

#include "kernel_bench.h"

namespace {

void register_case(const ufp4::Backend& backend, const ufp4::bench::KernelCase& what, const std::string& prefix) {
  using ufp4::bench::BenchOptions;
  using ufp4::bench::Kernel;
  std::string name = prefix;
  if (what.kernel != Kernel::kMemcpy) {
    constexpr const char* kKinds[] = {"memcpy", "row", "column", "both", "dequantize"};
    name += "/" + std::string(kKinds[static_cast<int>(what.kernel)]) + "/" + std::string(what.format->name) +
            "/hadamard" + std::to_string(what.hadamard) +
            (what.rounding == ufp4::Rounding::kStochastic ? "/sr/" : "/rtne/") + std::string(ufp4::name_of(what.input));
  }
  benchmark::RegisterBenchmark(name.c_str(), [&backend, what](benchmark::State& state) {
    const ufp4::bench::PreparedKernel kernel(backend, what, BenchOptions{}.rows, BenchOptions{}.columns);
    for (auto _ : state) kernel.run();
    state.SetBytesProcessed(state.iterations() * kernel.row().bytes);
  })->Unit(benchmark::kMillisecond);
}

}  // namespace

int main(int argc, char** argv) {
  register_case(ufp4::default_backend(), {ufp4::bench::Kernel::kMemcpy, nullptr, 0, {}, ufp4::DType::kBF16}, "memcpy");
  for (const ufp4::Backend* backend : ufp4::backends()) {
    if (!backend->available() || backend->name() == "scalar") continue;
    for (const auto& what : ufp4::bench::standard_cases()) register_case(*backend, what, std::string(backend->name()));
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
