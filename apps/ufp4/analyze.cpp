// ufp4 analyze: what a list of formats does to the matrices of a safetensors file or a folder of them.
#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "analyze.h"

#include "analysis/json.h"
#include "analysis/tensor_file.h"
#include "analyze_checkpoint.h"
#include "io/checkpoint_folders.h"
#include "io/safetensors_folder.h"
#include "io/tensor_name.h"
#include "progress.h"
#include "say.h"
#include "ufp4/error.h"
#include "verbs.h"
#include "whole_number.h"

namespace ufp4::app {
namespace {

using analysis::Figures;
using analysis::FileAnalysis;
using analysis::MatrixReport;
using analysis::SchemeFigures;
using analysis::TensorReport;

struct Options {
  std::string input;
  std::vector<std::string> formats{"e2m1", "e1m2", "int4_full"};
  int hadamard = 16;
  std::uint64_t seed = 0;
  unsigned threads = 0;
  bool json = false;
  bool bins = false;
  // Of the parts that run a checkpoint's model.
  bool chain = false, operands = false, gradients = false;
  GradientRun of_gradients;
  std::vector<std::string> data, recipes;
  std::int64_t sequences = 4;
  std::string device = "auto";
  // What only some of the parts look at.
  std::vector<CLI::Option*> of_models, of_tensors;
};

std::filesystem::path newest_in(const std::filesystem::path& checkpoints) {
  const std::vector<std::int64_t> steps = io::checkpoint_steps(checkpoints);
  if (steps.empty()) throw InputError("folder '" + checkpoints.string() + "' holds no checkpoint");
  return io::checkpoint_path(checkpoints, steps.back());
}

// The safetensors files of a path: itself, those of a folder in the order of their names, or the model of a run's
// newest checkpoint. A checkpoint of ours holds the optimizer's state beside the model: only the model is measured.
std::vector<std::filesystem::path> files_of(const std::filesystem::path& input) {
  std::error_code error;
  if (!std::filesystem::is_directory(input, error)) return {input};
  if (std::filesystem::exists(input / "model.safetensors", error)) {
    // A model of another program has neither of these beside it.
    const bool checkpoint = std::filesystem::exists(input / io::kCheckpointManifest, error) ||
                            std::filesystem::exists(input / "optimizer.safetensors", error);
    if (checkpoint) io::verify_checkpoint(input);
    return {input / "model.safetensors"};
  }
  if (std::filesystem::is_directory(input / "checkpoints", error)) return files_of(newest_in(input / "checkpoints"));
  io::SafetensorsFolder folder = io::list_safetensors(input);
  for (const std::filesystem::path& companion : folder.companions) {
    say(fmt::format("ufp4: left out '{}': a companion file of macOS, which holds no tensors\n", companion.string()));
  }
  return std::move(folder.files);
}

int threads_of(const Options& options) {
  return static_cast<int>(options.threads != 0 ? options.threads : std::max(1U, std::thread::hardware_concurrency()));
}

std::vector<OperandSpec> schemes_of(const Options& options) {
  std::vector<const BlockFormat*> formats;
  for (const std::string& name : options.formats) formats.push_back(&find_format(name));
  return analysis::schemes_of(formats, options.hadamard);
}

nlohmann::ordered_json to_json(const TensorReport& tensor, const std::string& file) {
  nlohmann::ordered_json json{{"name", tensor.name}, {"file", file}, {"dtype", tensor.dtype}};
  json.update(analysis::to_json(tensor));
  return json;
}

std::string decibel_text(double nmse) {
  // "+ 0.0": no sign before a zero.
  return nmse <= 0 ? "exact" : fmt::format("{:.2f}", std::round(-1000 * std::log10(nmse)) / 100 + 0.0);
}

std::string gain_text(const MatrixReport& report, const SchemeFigures& entry) {
  const Figures* plain = report.without_transform(entry.scheme);
  if (entry.scheme.hadamard.size == 0 || plain == nullptr) return "";
  const double gain = analysis::gain_db(*plain, entry.figures);
  return std::isnan(gain) ? "-" : fmt::format("{:+.2f}", gain);
}

// A format's levels, with what is expected of each bin and what was measured under each of its schemes.
void print_bins(const MatrixReport& report, const BlockFormat& format) {
  std::vector<const SchemeFigures*> own;
  for (const SchemeFigures& entry : report.schemes) {
    if (entry.scheme.format == &format && !entry.figures.level_share.empty()) own.push_back(&entry);
  }
  if (own.empty()) return;  // codes that mean another value in another block
  const nlohmann::ordered_json expected = analysis::expected_bins(format);
  const auto levels = expected["levels"].get<std::vector<double>>();
  fmt::print("  {:<14} {:>5} {:>8} {:>8}", format.name, "level", "Eq. 2", "normal");
  for (const SchemeFigures* entry : own) {
    const int size = entry->scheme.hadamard.size;
    fmt::print(" | {:<7} {:>6} {:>8}", size == 0 ? "no RHT:" : fmt::format("RHT {}:", size), "share", "error");
  }
  fmt::print("\n");
  for (std::size_t k = 0; k < own.front()->figures.level_share.size(); ++k) {
    const bool known = k < levels.size();  // else the code beyond the last level, -8
    const auto& normal = expected["normal_mean_error"];
    fmt::print("  {:<14} {:>5g} {:>8} {:>8}", "", known ? levels[k] : levels.back() + levels[1],
               known ? fmt::format("{:+.4f}", expected["eq2_bias"][k].get<double>()) : "",
               known && !normal.is_null() ? fmt::format("{:+.4f}", normal[k].get<double>()) : "");
    for (const SchemeFigures* entry : own) {
      fmt::print(" | {:<7} {:>5.1f}% {:>+8.4f}", "", 100 * entry->figures.level_share[k],
                 entry->figures.level_mean_error[k]);
    }
    fmt::print("\n");
  }
}

// The document of the output, written piece by piece: a file may hold very many tensors.
class JsonOutput {
 public:
  JsonOutput(const Options& options, const FileAnalysis& analysis) {
    fmt::print("{{\"kind\": \"tensors\",\n\"source\": {},\n\"formats\": {},\n\"tensors\": [",
               nlohmann::ordered_json(options.input).dump(), expected_bins_of(analysis.schemes).dump());
  }
  void add(const TensorReport& tensor, const std::string& file) {
    fmt::print("{}\n{}", any_ ? "," : "", to_json(tensor, file).dump());
    any_ = true;
  }
  void finish(const std::vector<std::string>& skipped) {
    fmt::print("\n],\n\"skipped\": {}}}\n", nlohmann::ordered_json(skipped).dump());
  }

 private:
  bool any_ = false;
};

// The lowest SQNR of each tensor, for the end of a long output: what is hurt most is what a reader looks for.
class Worst {
 public:
  void add(const TensorReport& tensor) {
    ++measured_;
    for (const SchemeFigures& entry : tensor.schemes) {
      if (!(entry.figures.nmse > 0)) continue;  // exact, or nothing but NaN
      all_.push_back({entry.figures.nmse, tensor.name, label(entry.scheme)});
    }
    const auto end = all_.size() > kShown ? all_.begin() + kShown : all_.end();
    std::partial_sort(all_.begin(), end, all_.end(), [](const Entry& a, const Entry& b) { return a.nmse > b.nmse; });
    all_.erase(end, all_.end());
  }
  void print() const {
    if (measured_ <= kShown || all_.empty()) return;
    fmt::print("\nof {} tensors, the lowest SQNR:\n", measured_);
    for (const Entry& entry : all_) {
      fmt::print("  {:>6} dB  {:<24} {}\n", decibel_text(entry.nmse), entry.scheme, io::show_name(entry.tensor));
    }
  }

 private:
  static constexpr std::size_t kShown = 5;
  struct Entry {
    double nmse;
    std::string tensor, scheme;
  };
  static std::string label(const OperandSpec& scheme) {
    const std::string name(scheme.format->name);
    return scheme.hadamard.size == 0 ? name : fmt::format("{}, RHT {}", name, scheme.hadamard.size);
  }
  std::vector<Entry> all_;
  std::size_t measured_ = 0;
};

// One line for all: a model has many vectors. `--json` has their list.
void say_skipped(const std::vector<std::string>& skipped) {
  if (skipped.empty()) return;
  constexpr std::size_t kNamed = 3;
  const std::size_t named = std::min(kNamed, skipped.size());
  say(fmt::format("ufp4: skipped {}{}; F32, F16 and BF16 tensors of 2 dimensions and more are measured\n",
                  fmt::join(skipped.begin(), skipped.begin() + static_cast<std::ptrdiff_t>(named), ", "),
                  skipped.size() > named ? fmt::format(" and {} more", skipped.size() - named) : ""));
}

void analyze_files(const Options& options) {
  FileAnalysis analysis{schemes_of(options), options.seed, threads_of(options), {}};
  const std::vector<std::filesystem::path> files = files_of(options.input);
  for (const std::filesystem::path& path : files) const io::SafetensorsReader checked(path);  // before any is measured
  std::optional<JsonOutput> json;
  if (options.json) json.emplace(options, analysis);
  std::vector<std::string> skipped;
  Worst worst;
  for (const std::filesystem::path& path : files) {
    const io::SafetensorsReader file(path);
    Progress progress("analyze " + path.filename().string(), analysis::bytes_to_read(file, analysis));
    analysis.progress = [&](std::uint64_t bytes) { progress.show(bytes); };
    const auto measured = [&](const TensorReport& tensor) {
      if (json) {
        json->add(tensor, path.string());
      } else {
        print_figures(io::show_name(tensor.name) + " " + tensor.dtype, tensor, options.bins);
        worst.add(tensor);
      }
    };
    const auto left_out = [&](const std::string& what) { skipped.push_back(what); };
    analysis::analyze_file(file, analysis, {measured, left_out});
  }
  if (json) json->finish(skipped);
  worst.print();
  say_skipped(skipped);
}

// An option that would be looked over is more likely a mistake than a wish.
void check_options(const Options& options) {
  const bool model = options.chain || options.operands || options.gradients;
  if (!options.recipes.empty() && !options.chain && !options.gradients) {
    throw InputError("--recipes is for a checkpoint's model: give --chain or --gradients with it");
  }
  for (const CLI::Option* option : model ? options.of_tensors : options.of_models) {
    if (option->count() == 0) continue;
    throw InputError(option->get_name() +
                     (model ? " is for tensors in files; a checkpoint's model has the signs of its "
                              "training (train.seed): leave it out with --operands, --chain and --gradients"
                            : " is for a checkpoint's model: give --operands, --chain or --gradients "
                              "with it"));
  }
}

void run(const Options& options) {
  check_options(options);
#ifdef UFP4_TORCH
  const CheckpointRun checkpoint{options.input,       options.data, options.sequences,
                                 threads_of(options), options.json, find_choice<DeviceKind>("--device", options.device),
                                 options.bins};
  if (options.gradients) {
    GradientRun gradients = options.of_gradients;
    gradients.recipes = options.recipes;
    if (gradients.recipes.empty()) gradients.recipes = {"bf16", "e2m1", "ufp4"};
    return print_gradients(checkpoint, gradients);
  }
  if (options.chain) return print_chain(checkpoint, schemes_of(options), options.recipes);
  if (options.operands) return print_operands(checkpoint, schemes_of(options));
#endif
  analyze_files(options);
}

}  // namespace

void print_figures(const std::string& title, const MatrixReport& report, bool bins) {
  fmt::print("{}  [{} x {}]  rms {:.4g}  amax {:.4g}  crest {:.1f}\n", title, report.rows, report.columns, report.rms,
             report.amax, report.crest());
  if (report.nonfinite > 0) {
    fmt::print("  {} values are NaN or infinite; measured as if they were not there\n", report.nonfinite);
  }
  fmt::print("  {:<14} {:>4} {:>9} {:>7} {:>8} {:>7} {:>7} {:>8}\n", "format", "RHT", "SQNR dB", "gain", "alpha",
             "B_eff", "zeros", "clamped");
  for (const SchemeFigures& entry : report.schemes) {
    const Figures& f = entry.figures;
    fmt::print("  {:<14} {:>4} {:>9} {:>7} {:>8.4f} {:>7.3f} {:>6.1f}% {:>7.2f}%\n", entry.scheme.format->name,
               entry.scheme.hadamard.size == 0 ? "-" : std::to_string(entry.scheme.hadamard.size), decibel_text(f.nmse),
               gain_text(report, entry), f.alpha, f.bucket_ratio, 100 * f.zero_share, 100 * f.clamped_share);
  }
  if (!bins) return;
  for (std::size_t i = 0; i < report.schemes.size(); ++i) {
    const BlockFormat* format = report.schemes[i].scheme.format;
    if (i > 0 && report.schemes[i - 1].scheme.format == format) continue;  // its schemes stand side by side
    print_bins(report, *format);
  }
}

nlohmann::ordered_json expected_bins_of(const std::vector<OperandSpec>& schemes) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  std::vector<const BlockFormat*> seen;
  for (const OperandSpec& scheme : schemes) {
    if (std::find(seen.begin(), seen.end(), scheme.format) != seen.end()) continue;
    seen.push_back(scheme.format);
    list.push_back(analysis::expected_bins(*scheme.format));
  }
  return list;
}

void add_analyze(CLI::App& program) {
  CLI::App* verb = program.add_subcommand(
      "analyze", "Measure what formats do to the matrices of a safetensors file, a checkpoint or a folder of shards");
  const auto options = std::make_shared<Options>();
  verb->add_option("PATH", options->input, "A safetensors file, a folder of them, a checkpoint, or the folder of a run")
      ->required();
  verb->add_option("--formats", options->formats, "Names that 'ufp4 formats' lists (e2m1,e1m2,int4_full)")
      ->delimiter(',');
  verb->add_option("--hadamard", options->hadamard,
                   "Each format is measured without and with this transform; 0: without (16)")
      ->check(whole_number(0, 128));
  options->of_tensors = {
      verb->add_option("--seed", options->seed, "Seed of the transform's signs, for tensors in files (0)")
          ->check(whole_number())};
  verb->add_option("--threads", options->threads, "Threads (all cores)")->check(whole_number(1, 1024));
  [[maybe_unused]] CLI::Option* bins =
      verb->add_flag("--bins", options->bins,
                     "In the table: the mean error in each bin too, by Eq. 2, for normal values and as measured");
#ifdef UFP4_TORCH
  CLI::Option* operands = verb->add_flag("--operands", options->operands,
                                         "Run a checkpoint on text and measure the six operands of every linear");
  CLI::Option* chain =
      verb->add_flag(
              "--chain", options->chain,
              "Run a checkpoint on text in BF16 and quantized, and follow the attenuation of signal and gradient")
          ->excludes(operands)
          ->excludes(bins);
  CLI::Option* gradients =
      verb->add_flag("--gradients", options->gradients,
                     "Run a checkpoint on text under recipes and measure bias and variance of its gradient")
          ->excludes(operands)
          ->excludes(chain)
          ->excludes(bins);
  verb->add_option("--recipes", options->recipes,
                   "With --chain: recipes beside the formats; with --gradients: the recipes (bf16,e2m1,ufp4). Names or "
                   "TOML files, each with changes of its own after colons")
      ->delimiter(',');
  verb->add_option("--draws", options->of_gradients.draws, "With --gradients: draws of what is random (8)")
      ->check(whole_number(2, 4096))
      ->needs(gradients);
  verb->add_flag("--each-operand", options->of_gradients.each_operand,
                 "With --gradients: every operand of the recipes alone too, the others in BF16")
      ->needs(gradients);
  verb->add_option("--reference", options->of_gradients.reference,
                   "With --gradients: what they are measured against, fp32 or bf16 (fp32)")
      ->check(CLI::IsMember({"fp32", "bf16"}))
      ->needs(gradients);
  options->of_models = {
      verb->add_option("--data", options->data,
                       "With --operands, --chain or --gradients: text as for 'ufp4 train' (that of the run)")
          ->type_name("FILE..."),
      verb->add_option("--device", options->device,
                       "With --operands, --chain or --gradients: where the model runs; auto: cuda where there is one "
                       "that knows the "
                       "formats (auto)")
          ->check(CLI::IsMember({"auto", "cpu", "cuda"})),
      verb->add_option("--sequences", options->sequences,
                       "With --operands, --chain or --gradients: sequences of the text (4)")
          ->check(whole_number(1, 65536))};
#endif
  verb->add_flag("--json", options->json, "Print JSON for programs; 'ufp4 report' draws it");
  verb->footer(
      "Examples:\n"
      "  ufp4 analyze model.safetensors --formats e2m1,e1m2,nvfp4 --hadamard 16\n"
      "  ufp4 analyze runs/first --chain --formats e2m1,e1m2\n"
      "  ufp4 analyze runs/first --gradients --recipes e2m1,ufp4 --draws 16 --each-operand");
  verb->callback([options] { run(*options); });
}

}  // namespace ufp4::app
