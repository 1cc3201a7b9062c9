// ufp4 bench: the kernels of a backend against the memcpy of this machine.
#include <fmt/core.h>

#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "kernel_bench.h"
#ifdef UFP4_HAVE_DEVICE_BENCH
#include "device_bench.h"
#endif
#include "machine.h"
#include "ufp4/backend.h"
#include "verbs.h"
#include "whole_number.h"

namespace ufp4::app {
namespace {

struct Options {
  bool json = false;
  std::int64_t size_mib = 64;
  int repeats = bench::BenchOptions{}.repeats;
  std::string backend;
};

void print_row(const bench::KernelRow& row) {
  fmt::print("{:<10} {:<13} {:>8} {:<8} {:<6} {:<5} {:>9.1f} {:>10.0f} {:>8.2f} {:>12.2f}\n", row.kernel, row.format,
             row.hadamard, row.rounding, row.axis, row.input, static_cast<double>(row.bytes) / 1e6, row.microseconds,
             row.gb_per_s, row.share_of_memcpy);
  std::fflush(stdout);
}

nlohmann::ordered_json to_json(const bench::KernelRow& row) {
  return {{"kernel", row.kernel},     {"format", row.format},
          {"hadamard", row.hadamard}, {"rounding", row.rounding},
          {"axis", row.axis},         {"input", row.input},
          {"bytes", row.bytes},       {"microseconds", row.microseconds},
          {"gb_per_s", row.gb_per_s}, {"share_of_memcpy", row.share_of_memcpy}};
}

#ifdef UFP4_HAVE_DEVICE_BENCH
void print_device_row(const bench::DeviceRow& row) {
  const auto ratio = [](double value) { return value == 0 ? std::string() : fmt::format("{:.2f}", value); };
  fmt::print("{:<52} {:>9.1f} {:>10.1f} {:>8.2f} {:>12} {:>12}\n", row.kernel, row.bytes / 1e6, row.microseconds,
             row.share_of_copy, ratio(row.of_quantize), ratio(row.of_parts));
  std::fflush(stdout);
}

nlohmann::ordered_json to_json(const bench::DeviceRow& row) {
  return {{"kernel", row.kernel},
          {"bytes", row.bytes},
          {"microseconds", row.microseconds},
          {"share_of_copy", row.share_of_copy},
          {"of_quantize", row.of_quantize},
          {"of_parts", row.of_parts}};
}

// The kernels of the GPU on matrices in its own memory.
void run_device(const Backend& backend, const Options& options, const bench::BenchOptions& measured) {
  if (options.json) {
    nlohmann::ordered_json result{{"version", UFP4_VERSION},
                                  {"device", backend.device()},
                                  {"backend", backend.name()},
                                  {"rows", measured.rows},
                                  {"columns", measured.columns},
                                  {"repeats", measured.repeats},
                                  {"kernels", nlohmann::ordered_json::array()}};
    bench::measure_device(measured.rows, measured.columns, measured.repeats,
                          [&](const bench::DeviceRow& row) { result["kernels"].push_back(to_json(row)); });
    fmt::print("{}\n", result.dump(2));
    return;
  }
  fmt::print(
      "{}; matrix [{}, {}]; medians of {} repeats; times of fused kernels against the quantization alone and the "
      "sum of the parts\n",
      backend.description(), measured.rows, measured.columns, measured.repeats);
  fmt::print("{:<52} {:>9} {:>10} {:>8} {:>12} {:>12}\n", "kernel", "MB", "us", "of copy", "of quantize", "of parts");
  bench::measure_device(measured.rows, measured.columns, measured.repeats, print_device_row);
}
#endif

// The one asked for; else the GPU where there is one.
const Backend& chosen_backend(const Options& options) {
  if (!options.backend.empty()) return find_backend(options.backend);
#ifdef UFP4_HAVE_DEVICE_BENCH
  for (const Backend* backend : backends()) {
    if (backend->name() == "cuda" && backend->available()) return *backend;
  }
#endif
  return default_backend();
}

void run(const Options& options) {
  const Backend& backend = chosen_backend(options);
  bench::BenchOptions measured;
  measured.rows = options.size_mib * (std::int64_t{1} << 20) / (measured.columns * 2);
  measured.repeats = options.repeats;
#ifdef UFP4_HAVE_DEVICE_BENCH
  if (backend.name() == "cuda") return run_device(backend, options, measured);
#endif
  if (options.json) {
    nlohmann::ordered_json result{{"version", UFP4_VERSION},
                                  {"cpu", cpu_model()},
                                  {"backend", backend.name()},
                                  {"rows", measured.rows},
                                  {"columns", measured.columns},
                                  {"repeats", measured.repeats},
                                  {"kernels", nlohmann::ordered_json::array()}};
    for (const bench::KernelRow& row : bench::measure_kernels(backend, bench::standard_cases(), measured)) {
      result["kernels"].push_back(to_json(row));
    }
    fmt::print("{}\n", result.dump(2));
    return;
  }
  fmt::print("{}; backend {}, one thread; matrix [{}, {}]; medians of {} repeats\n", cpu_model(), backend.name(),
             measured.rows, measured.columns, measured.repeats);
  fmt::print("{:<10} {:<13} {:>8} {:<8} {:<6} {:<5} {:>9} {:>10} {:>8} {:>12}\n", "kernel", "format", "hadamard",
             "rounding", "axis", "input", "MB", "us", "GB/s", "of memcpy");
  bench::measure_kernels(backend, bench::standard_cases(), measured, print_row);
}

}  // namespace

void add_bench(CLI::App& program) {
  CLI::App* verb = program.add_subcommand("bench", "Measure the kernels against this machine's own memcpy");
  const auto options = std::make_shared<Options>();
  verb->add_flag("--json", options->json, "Print JSON for programs");
  verb->add_option("--size", options->size_mib, "MiB of the BF16 matrix; larger than the caches to mean anything (64)")
      ->check(whole_number(1, 16384));
  verb->add_option("--repeats", options->repeats, "Repeats of which the median is taken (15)")
      ->check(whole_number(1, 10000));
  verb->add_option("--backend", options->backend,
                   "A name that 'ufp4 info' lists (cuda where there is a GPU, else the fastest of this CPU)");
  verb->footer("Example:\n  ufp4 bench --size 256 --json");
  verb->callback([options] { run(*options); });
}

}  // namespace ufp4::app
