// ufp4 analyze: what a list of formats does to the matrices of a safetensors file or a folder of them.
#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "analysis/tensor_file.h"
#include "io/tensor_name.h"
#include "progress.h"
#include "ufp4/error.h"
#include "verbs.h"
#include "whole_number.h"

namespace ufp4::app {
namespace {

using analysis::Figures;
using analysis::FileAnalysis;
using analysis::FileReport;
using analysis::Scheme;
using analysis::SchemeFigures;
using analysis::TensorReport;

struct Options {
  std::string input;
  std::vector<std::string> formats{"e2m1", "e1m2", "int4_full"};
  int hadamard = 16;
  std::uint64_t seed = 0;
  unsigned threads = 0;
  bool json = false;
};

// The safetensors files of a path: itself, or those of a folder in the order of their names. A checkpoint of ours holds
// the optimizer's state beside the model: only the model is measured.
std::vector<std::filesystem::path> files_of(const std::filesystem::path& input) {
  std::error_code error;
  if (!std::filesystem::is_directory(input, error)) return {input};
  if (std::filesystem::exists(input / "model.safetensors", error)) return {input / "model.safetensors"};
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(input)) {
    if (entry.path().extension() == ".safetensors") files.push_back(entry.path());
  }
  if (files.empty()) throw InputError("folder '" + input.string() + "' holds no .safetensors file");
  std::sort(files.begin(), files.end());
  return files;
}

std::vector<Scheme> schemes_of(const Options& options) {
  std::vector<Scheme> schemes;
  for (const std::string& name : options.formats) {
    const BlockFormat& format = find_format(name);
    schemes.push_back({&format, 0});
    if (options.hadamard != 0) schemes.push_back({&format, options.hadamard});
  }
  return schemes;
}

// An exact image has no finite SQNR: null for programs.
nlohmann::ordered_json decibel(double nmse) {
  if (nmse <= 0) return nullptr;
  return -10 * std::log10(nmse);
}

nlohmann::ordered_json to_json(const SchemeFigures& entry) {
  const Figures& f = entry.figures;
  return {{"format", entry.scheme.format->name},
          {"hadamard", entry.scheme.hadamard},
          {"sqnr_db", decibel(f.nmse)},
          {"nmse", f.nmse},
          {"alpha", f.alpha},
          {"delta", f.delta()},
          {"bucket_ratio", f.bucket_ratio},
          {"zero_share", f.zero_share},
          {"clamped_share", f.clamped_share},
          {"level_share", f.level_share},
          {"level_mean_error", f.level_mean_error}};
}

nlohmann::ordered_json to_json(const TensorReport& tensor, const std::string& file) {
  nlohmann::ordered_json schemes = nlohmann::ordered_json::array();
  for (const SchemeFigures& entry : tensor.schemes) schemes.push_back(to_json(entry));
  return {{"name", tensor.name},
          {"file", file},
          {"dtype", tensor.dtype},
          {"shape", {tensor.rows, tensor.columns}},
          {"nonfinite", tensor.nonfinite},
          {"rms", tensor.rms},
          {"amax", tensor.amax},
          {"crest", tensor.crest()},
          {"schemes", schemes}};
}

std::string decibel_text(double nmse) { return nmse <= 0 ? "exact" : fmt::format("{:.2f}", -10 * std::log10(nmse)); }

// The gain of the transform in dB: a change of NMSE between two lines of one format.
std::string gain_text(const Figures& plain, const Figures& transformed) {
  if (plain.nmse <= 0 || transformed.nmse <= 0) return "-";
  return fmt::format("{:+.2f}", 10 * std::log10(plain.nmse / transformed.nmse));
}

void print_tensor(const TensorReport& tensor) {
  fmt::print("{}  [{} x {}] {}  rms {:.4g}  amax {:.4g}  crest {:.1f}\n", io::show_name(tensor.name), tensor.rows,
             tensor.columns, tensor.dtype, tensor.rms, tensor.amax, tensor.crest());
  if (tensor.nonfinite > 0) {
    fmt::print("  {} values are NaN or infinite; measured as if they were not there\n", tensor.nonfinite);
  }
  fmt::print("  {:<14} {:>4} {:>9} {:>7} {:>8} {:>7} {:>7} {:>8}\n", "format", "RHT", "SQNR dB", "gain", "alpha",
             "B_eff", "zeros", "clamped");
  const Figures* plain = nullptr;
  for (const SchemeFigures& entry : tensor.schemes) {
    const Figures& f = entry.figures;
    if (entry.scheme.hadamard == 0) plain = &f;
    fmt::print("  {:<14} {:>4} {:>9} {:>7} {:>8.4f} {:>7.3f} {:>6.1f}% {:>7.2f}%\n", entry.scheme.format->name,
               entry.scheme.hadamard == 0 ? "-" : std::to_string(entry.scheme.hadamard), decibel_text(f.nmse),
               entry.scheme.hadamard == 0 ? "" : gain_text(*plain, f), f.alpha, f.bucket_ratio, 100 * f.zero_share,
               100 * f.clamped_share);
  }
}

void run(const Options& options) {
  FileAnalysis analysis;
  analysis.schemes = schemes_of(options);
  analysis.seed = options.seed;
  analysis.threads =
      static_cast<int>(options.threads != 0 ? options.threads : std::max(1U, std::thread::hardware_concurrency()));
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  nlohmann::ordered_json skipped = nlohmann::ordered_json::array();
  for (const std::filesystem::path& path : files_of(options.input)) {
    const io::SafetensorsReader file(path);
    Progress progress("analyze " + path.filename().string(), analysis::bytes_to_read(file, analysis));
    analysis.progress = [&](std::uint64_t bytes) { progress.show(bytes); };
    const FileReport report = analysis::analyze_file(file, analysis);
    for (const std::string& what : report.skipped) {
      fmt::print(stderr, "ufp4: skipped {}; float tensors of 2 dimensions and more are measured\n", what);
      skipped.push_back(what);
    }
    for (const TensorReport& tensor : report.tensors) {
      if (options.json) {
        list.push_back(to_json(tensor, path.string()));
      } else {
        print_tensor(tensor);
      }
    }
  }
  if (options.json) {
    fmt::print("{}\n", nlohmann::ordered_json{{"tensors", list}, {"skipped", skipped}}.dump(2));
  }
}

}  // namespace

void add_analyze(CLI::App& program) {
  CLI::App* verb = program.add_subcommand(
      "analyze", "Measure what formats do to the matrices of a safetensors file, a checkpoint or a folder of shards");
  const auto options = std::make_shared<Options>();
  verb->add_option("PATH", options->input, "A safetensors file, or a folder of them")->required();
  verb->add_option("--formats", options->formats, "Names that 'ufp4 formats' lists (e2m1,e1m2,int4_full)")
      ->delimiter(',');
  verb->add_option("--hadamard", options->hadamard,
                   "Each format is measured without and with this transform; 0: without (16)")
      ->check(whole_number(0, 128));
  verb->add_option("--seed", options->seed, "Seed of the transform's signs (0)")->check(whole_number());
  verb->add_option("--threads", options->threads, "Threads (all cores)")->check(whole_number(1, 1024));
  verb->add_flag("--json", options->json, "Print JSON for programs");
  verb->footer("Example:\n  ufp4 analyze model.safetensors --formats e2m1,e1m2,nvfp4 --hadamard 16");
  verb->callback([options] { run(*options); });
}

}  // namespace ufp4::app
