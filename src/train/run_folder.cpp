#include "train/run_folder.h"

#include <torch/headeronly/version.h>

#include <array>
#include <nlohmann/json.hpp>
#include <system_error>

#include "io/file.h"
#include "io/held_folder.h"
#include "io/json.h"
#include "io/tokenizer_file.h"
#include "ufp4/error.h"

namespace ufp4 {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr const char* kConfig = "config.toml";
constexpr const char* kRun = "run.json";
constexpr const char* kResult = "result.json";
constexpr const char* kCheckpoints = "checkpoints";
constexpr std::array<std::string_view, 9> kFiles{
    kConfig,     kRun,          "metrics.jsonl",    "analysis.jsonl",        kResult,
    "train.log", io::kLockName, io::kTokenizerName, io::kTokenizerConfigName};

template <class T>
Json or_null(const std::optional<T>& value) {
  return value ? Json(*value) : Json();
}

// Numbers and booleans as such, lists as arrays.
Json typed(const Assignment& entry) {
  if (is_list(entry.key)) return entry.value;
  const std::string& text = entry.value.front();
  if (toml_scalar(text) != text) return text;
  return Json::parse(text, nullptr, false).is_discarded() ? Json(text) : Json::parse(text);
}

Json to_object(const std::vector<std::pair<std::string, std::string>>& pairs) {
  Json object = Json::object();
  for (const auto& [key, value] : pairs) object[key] = typed({key, {value}, ""});
  return object;
}

std::optional<nlohmann::json> read_run(const fs::path& folder) {
  if (!fs::exists(folder / kRun)) return std::nullopt;
  try {
    nlohmann::json run = io::read_json(folder / kRun);
    return run.is_object() && run.contains("ufp4_version") ? std::optional(std::move(run)) : std::nullopt;
  } catch (const InputError&) {
    return std::nullopt;
  }
}

// Whether a start that was killed before it wrote the configuration can have left all that is there.
bool is_left_by_a_crash(const fs::path& folder) {
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename();
    const bool ours = name == io::kLockName || name == "train.log" || io::is_temporary_name(name) ||
                      (name == kRun && read_run(folder));
    if (!ours) return false;
  }
  return true;
}

RunConfig read_config(const fs::path& folder) {
  try {
    return make_run_config(read_toml(folder / kConfig));
  } catch (const InputError& error) {
    throw InputError((folder / kConfig).string() + " does not have the settings of a run: " + error.what() +
                     "; each checkpoint has a copy: put one in its place, or choose another folder");
  }
}

std::string word_of(const nlohmann::json& run, const char* key) {
  const auto found = run.find(key);
  return found != run.end() && found->is_string() ? found->get<std::string>() : std::string();
}

DataIdentity data_of(const fs::path& folder) {
  const std::optional<nlohmann::json> run = read_run(folder);
  return run ? DataIdentity{word_of(*run, "data_fingerprint"), word_of(*run, "validation_checksum")} : DataIdentity{};
}

// How a run goes on whose schedule is not the one asked for.
std::string way_on(const RunConfig& found, const RunConfig& config) {
  const std::string schedule = std::to_string(found.schedule.steps);
  if (config.train.steps <= found.schedule.steps) {
    return " (it follows train.steps unless it is set); to go on under the schedule of that run, add --set "
           "schedule.steps=" +
           schedule;
  }
  return " (it follows train.steps unless it is set); the learning rate of that run ends with step " + schedule +
         ", so that a longer one is another run: choose another folder. To train one in parts, set schedule.steps to "
         "the length of the whole from the first part on";
}

}  // namespace

std::string_view torch_version() { return TORCH_VERSION; }

std::optional<Difference> difference_of_runs(RunConfig found, const RunConfig& expected) {
  found.data.train = expected.data.train;
  found.data.val = expected.data.val;
  return first_difference(found, expected);
}

void check_run_folder(const fs::path& folder, const RunConfig& config, const DataIdentity& data) {
  if (folder.empty()) throw InputError("the name of the run's folder is empty, expected one (--out DIR)");
  if (!io::exists_at(folder)) return;
  if (!fs::is_directory(folder)) throw InputError(folder.string() + " is a file, expected a folder for the run");
  for (const std::string_view name : kFiles) io::check_type(folder / name, fs::file_type::regular, "a file of the run");
  io::check_type(folder / kCheckpoints, fs::file_type::directory, "a folder of the run");
  if (!fs::exists(folder / kConfig)) {
    if (is_left_by_a_crash(folder)) return;
    throw InputError(folder.string() +
                     " exists, is not empty and holds no run (no config.toml): choose another folder");
  }
  const RunConfig found = read_config(folder);
  const bool known = data != DataIdentity{} && data_of(folder) == data;
  const auto difference = known ? difference_of_runs(found, config) : first_difference(found, config);
  if (!difference) return;
  const bool schedule = difference->key == "schedule.steps";
  throw InputError(folder.string() + " holds a run with another configuration: " + difference->key + " is '" +
                   difference->found + "' there and '" + difference->expected + "' here" +
                   (schedule ? way_on(found, config)
                    : difference->key == "data.train" || difference->key == "data.val"
                        ? " (other names need the same text); choose another folder, or the same data to continue "
                          "that run"
                        : "; choose another folder, or the same settings to continue that run"));
}

void write_run_folder(const fs::path& folder, const RunConfig& config, const RunFacts& facts) {
  Json settings = Json::object();
  for (const Assignment& entry : entries(config)) settings[entry.key] = typed(entry);
  Json model = to_object(entries(config.model));
  model["parameters"] = parameter_count(config.model);
  model["non_embedding_parameters"] = non_embedding_parameter_count(config.model);
  const Json run{{"ufp4_version", UFP4_VERSION},
                 {"torch_version", torch_version()},
                 {"recipe", to_object(entries(config.recipe))},
                 {"model", model},
                 {"device", facts.device},
                 {"accelerator", facts.accelerator},
                 {"peak_tflops", or_null(facts.peak_tflops)},
                 {"gemm", facts.gemm},
                 {"backend", facts.backend},
                 {"seed", config.train.seed},
                 {"config", settings},
                 {"entropy_rate", or_null(facts.entropy_rate)},
                 {"data_fingerprint", facts.data.training},
                 {"validation_checksum", facts.data.validation}};
  // The configuration first: with it the folder is a run, whatever happens next.
  io::atomic_write_file(folder / kConfig, to_toml(config), io::Links::kRefuse);
  io::atomic_write_file(folder / kRun, run.dump(1) + "\n", io::Links::kRefuse);
}

void write_result(const fs::path& folder, const TrainResult& result) {
  const Json json{{"steps", result.step},
                  {"tokens", result.tokens},
                  {"skipped", result.skipped},
                  {"train_loss", or_null(result.train_loss)},
                  {"val_loss", or_null(result.val_loss)},
                  {"tokens_per_s", result.tokens_per_s}};
  io::atomic_write_file(folder / kResult, json.dump(1) + "\n", io::Links::kRefuse);
}

std::optional<TrainResult> read_result(const fs::path& folder, const std::function<void(const std::string&)>& warn) {
  const fs::path file = folder / kResult;
  if (!fs::exists(file)) return std::nullopt;
  const auto loss = [](const Json& value) { return value.is_null() ? std::nullopt : std::optional<double>(value); };
  const auto damaged = [&](const std::exception& error) {
    if (warn) warn(file.string() + " is damaged and will be made anew: " + error.what());
    return std::nullopt;
  };
  try {
    const Json json = io::read_json(file);
    return TrainResult{true,
                       io::whole_number(json, "steps", file.string()),
                       io::whole_number(json, "tokens", file.string()),
                       io::whole_number(json, "skipped", file.string()),
                       loss(json.at("train_loss")),
                       loss(json.at("val_loss")),
                       json.at("tokens_per_s")};
  } catch (const Json::exception& error) {
    return damaged(error);
  } catch (const InputError& error) {
    return damaged(error);
  }
}

}  // namespace ufp4
