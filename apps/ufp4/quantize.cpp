// ufp4 quantize: the tensors of a safetensors file in a 4-bit format. The contract by which other programs check the
// library; docs/cli.md describes the output.
#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>

#include "format_names.h"
#include "numerics/near_name.h"
#include "quantize_file.h"
#include "say.h"
#include "ufp4/error.h"
#include "verbs.h"
#include "whole_number.h"

namespace ufp4::app {
namespace {

struct Options {
  std::string in;
  std::string out;
  std::string format;
  std::optional<int> block;
  std::optional<std::string> scale;
  std::string axis = "row";
  int hadamard = 0;
  std::optional<std::string> signs;
  std::string hadamard_output = "f32";
  std::string outer = "own";
  std::string tau = "auto";
  std::string rounding = "rtne";
  std::uint64_t seed = 0;
  std::uint32_t step = 0;
  std::uint32_t stream = 0;
  std::string backend;
  unsigned threads = 0;
};

// The index of `value` among `known`.
template <std::size_t n>
std::size_t choice(std::string_view option, std::string_view value, const std::array<std::string_view, n>& known) {
  const auto found = std::find(known.begin(), known.end(), value);
  if (found == known.end()) {
    throw InputError(fmt::format("{}: unknown value '{}'{}", option, value, name_hint(value, known)));
  }
  return static_cast<std::size_t>(found - known.begin());
}

// The bits of a mask of n signs, from "0x" and up to n / 4 hexadecimal digits.
std::array<std::uint32_t, 4> parse_signs(std::string_view text, int n) {
  const auto refuse = [&](std::string_view why) {
    throw InputError(fmt::format("--signs {}: {}; expected 0x and up to {} hexadecimal digits", text, why, n / 4));
  };
  if (!(text.starts_with("0x") || text.starts_with("0X")) || text.size() == 2) refuse("not a hexadecimal mask");
  std::array<std::uint32_t, 4> words{};
  std::size_t position = 0;  // of the digit, from the lowest
  for (std::size_t i = text.size(); i-- > 2; ++position) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    const char lower = text[i] >= 'A' && text[i] <= 'F' ? static_cast<char>(text[i] - 'A' + 'a') : text[i];
    const std::size_t digit = kDigits.find(lower);
    if (digit == std::string_view::npos) refuse(fmt::format("'{}' is not a hexadecimal digit", text[i]));
    if (digit == 0) continue;
    if (position >= static_cast<std::size_t>(n) / 4) refuse(fmt::format("more than the {} bits of the transform", n));
    words[position / 8] |= static_cast<std::uint32_t>(digit) << (4 * (position % 8));
  }
  return words;
}

OperandSpec make_spec(const Options& options) {
  OperandSpec spec;
  spec.format = &find_format(options.format);
  if (options.block) {
    spec.block = *options.block;
    if (std::find(kBlockSizes.begin(), kBlockSizes.end(), spec.block) == kBlockSizes.end()) {
      throw InputError(fmt::format("--block {}: expected one of 16, 32, 64, 128", spec.block));
    }
  }
  if (options.scale && *options.scale != name_of(spec.format->scale)) {
    throw InputError(fmt::format("--scale {}: format '{}' keeps its scales in {}", *options.scale, spec.format->name,
                                 name_of(spec.format->scale)));
  }
  spec.rounding =
      choice<2>("--rounding", options.rounding, {"rtne", "sr"}) == 0 ? Rounding::kNearest : Rounding::kStochastic;
  if (options.hadamard != 0) {
    if (std::find(kBlockSizes.begin(), kBlockSizes.end(), options.hadamard) == kBlockSizes.end()) {
      throw InputError(fmt::format("--hadamard {}: expected 0 (none), 16, 32, 64 or 128", options.hadamard));
    }
    spec.hadamard = make_hadamard(options.hadamard, options.seed);
    if (options.signs) spec.hadamard.signs = parse_signs(*options.signs, options.hadamard);
    spec.hadamard.round_to_bf16 = choice<2>("--hadamard-output", options.hadamard_output, {"f32", "bf16"}) == 1;
  } else if (options.hadamard_output != "f32") {
    throw InputError("--hadamard-output is of a transform; give its size with --hadamard");
  } else if (options.signs) {
    throw InputError("--signs is the mask of a transform; give its size with --hadamard");
  }
  spec.outer.each = find_outer_scale(options.outer);
  spec.options.tau = std::array{0.0F, 1.0F, 1.125F}[choice<3>("--tau", options.tau, {"auto", "1", "9/8"})];
  return spec;
}

Place make_place(const Options& options) {
  const Axis axis = choice<2>("--axis", options.axis, {"row", "column"}) == 0 ? Axis::kRow : Axis::kColumn;
  return {.axis = axis, .seed = options.seed, .step = options.step, .stream = options.stream};
}

void run(const Options& options) {
  QuantizeFileJob job{options.in, options.out, make_spec(options), make_place(options)};
  job.backend = options.backend.empty() ? &default_backend() : &find_backend(options.backend);
  job.threads = options.threads != 0 ? options.threads : std::max(1u, std::thread::hardware_concurrency());

  if (!job.backend->has_kernels(*job.spec.format)) {
    say(fmt::format("ufp4: backend {} has no kernels for {}: the reference quantizes it, which is slow\n",
                    job.backend->name(), job.spec.format->name));
  }
  const auto start = std::chrono::steady_clock::now();
  const QuantizeFileResult result = quantize_file(job);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  for (const std::string& skipped : result.skipped) {
    say(fmt::format("ufp4: skipped {}; only 2-D tensors of F32, F16 and BF16 are quantized\n", skipped));
  }
  fmt::print("{}: {} tensor{} in {} by backend {}, {:.1f} MB read in {:.2f} s\n", options.out, result.tensors,
             result.tensors == 1 ? "" : "s", options.format, job.backend->name(),
             static_cast<double>(result.bytes_read) / 1e6, seconds);
}

}  // namespace

void add_quantize(CLI::App& program) {
  CLI::App* verb =
      program.add_subcommand("quantize", "Quantize the 2-D tensors of a safetensors file to a 4-bit format");
  const auto options = std::make_shared<Options>();
  verb->add_option("IN", options->in, "The safetensors file to read")->required();
  verb->add_option("OUT", options->out,
                   "The file to write: for each tensor t the tensors t.codes, t.scales, t.global_scale and t.dequant")
      ->required();
  verb->add_option("--format", options->format, "A name that 'ufp4 formats' lists")->required();
  verb->add_option("--block", options->block, "Elements that share a scale: 16, 32, 64 or 128 (the format's own)")
      ->check(whole_number(0, INT32_MAX));
  verb->add_option("--scale", options->scale, "How the scales are kept; checked against the format's");
  verb->add_option("--axis", options->axis,
                   "row: blocks along the last axis; column: along the first, and the results are transposed (row)");
  verb->add_option("--hadamard", options->hadamard, "Size of the random Hadamard transform: 0, 16, 32, 64 or 128 (0)")
      ->check(whole_number(0, INT32_MAX));
  verb->add_option("--signs", options->signs,
                   "The transform's mask in hexadecimal, 0xHHHH: bit i negates element i (the one of --seed)");
  verb->add_option("--hadamard-output", options->hadamard_output,
                   "f32, or bf16: the transform's output is rounded first, as TransformerEngine does (f32)");
  verb->add_option("--outer", options->outer,
                   "What shares a second-level scale; int4_p2: tensor, row, 1x128 or 128x128 (tensor); int4_i4: row, "
                   "1x128, 1x256, 1x512 or 1x1024 (1x512)");
  verb->add_option("--tau", options->tau,
                   "int4_p2: how far a block may lie beyond its scale: 1, 9/8 or auto: 9/8 for rtne, 1 for sr (auto)");
  verb->add_option("--rounding", options->rounding, "rtne: to nearest, ties to even; sr: stochastic (rtne)");
  verb->add_option("--seed", options->seed, "Seed of the mask and of stochastic rounding (0)")->check(whole_number());
  verb->add_option("--step", options->step, "Step of stochastic rounding (0)")->check(whole_number(0, UINT32_MAX));
  verb->add_option("--stream", options->stream, "Stream of stochastic rounding: a number for each tensor (0)")
      ->check(whole_number(0, UINT32_MAX));
  verb->add_option("--backend", options->backend, "A name that 'ufp4 info' lists (the fastest of this machine)");
  verb->add_option("--threads", options->threads, "Threads; they change no bit (all cores)")
      ->check(whole_number(1, 1024));
  verb->footer(
      "Example:\n"
      "  ufp4 quantize model.safetensors model.e1m2.safetensors --format e1m2 --hadamard 16 --signs 0xD7E8");
  verb->callback([options] { run(*options); });
}

}  // namespace ufp4::app
