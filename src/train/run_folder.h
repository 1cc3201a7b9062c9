// The files that describe a run, beside its metrics and checkpoints.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "config/run_config.h"
#include "train/trainer.h"

namespace ufp4 {

// Throws InputError if `folder` is no folder, holds something other than a run, or a run with another configuration.
void check_run_folder(const std::filesystem::path& folder, const RunConfig& config);

// Of the torch that this program was built with: "2.11.0".
std::string_view torch_version();

// What run.json says that is not in the configuration.
struct RunFacts {
  std::string device;
  std::string accelerator;            // its name; empty on the CPU
  std::optional<double> peak_tflops;  // of the accelerator, where it is known: what MFU refers to
  std::string gemm;
  std::string backend;
  std::optional<double> entropy_rate;
};

// Creates the folder with config.toml and run.json.
void write_run_folder(const std::filesystem::path& folder, const RunConfig& config, const RunFacts& facts);

void write_result(const std::filesystem::path& folder, const TrainResult& result);

// Of a run that is done; nothing if it is not.
std::optional<TrainResult> read_result(const std::filesystem::path& folder);

}  // namespace ufp4
