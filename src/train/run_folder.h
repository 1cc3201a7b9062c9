// The files that describe a run, beside its metrics and checkpoints. All are written by the process that holds the
// folder (io/held_folder.h), and none through a symbolic link.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "config/run_config.h"
#include "train/trainer.h"

namespace ufp4 {

// What tells one text from another, whatever its files are called; empty where it is not known.
struct DataIdentity {
  std::string training;    // Dataset::fingerprint()
  std::string validation;  // checksum of the tokens of a validation

  bool operator==(const DataIdentity&) const = default;
};

// Throws InputError if `folder` is no folder, holds something other than a run, has a link or a folder where a file of
// the run belongs, or holds a run with another configuration. A folder that a crash left before it had a configuration
// is taken. Files of data may have other names if their text is the same.
void check_run_folder(const std::filesystem::path& folder, const RunConfig& config, const DataIdentity& data);

// Nothing if the two are settings of one run; else what differs, for a message. Names of data do not count.
std::optional<Difference> difference_of_runs(RunConfig found, const RunConfig& expected);

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
  DataIdentity data;
};

// Writes config.toml and run.json.
void write_run_folder(const std::filesystem::path& folder, const RunConfig& config, const RunFacts& facts);

void write_result(const std::filesystem::path& folder, const TrainResult& result);

// Of a run that is done; nothing if it is not, or if its file is damaged, of which `warn` is told.
std::optional<TrainResult> read_result(const std::filesystem::path& folder,
                                       const std::function<void(const std::string&)>& warn);

}  // namespace ufp4
