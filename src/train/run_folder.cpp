#include "train/run_folder.h"

#include <torch/headeronly/version.h>

#include <nlohmann/json.hpp>

#include "io/file.h"
#include "io/json.h"
#include "ufp4/error.h"

namespace ufp4 {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr const char* kConfig = "config.toml";
constexpr const char* kResult = "result.json";

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

}  // namespace

std::string_view torch_version() { return TORCH_VERSION; }

void check_run_folder(const fs::path& folder, const RunConfig& config) {
  if (!fs::exists(folder)) return;
  if (!fs::is_directory(folder)) throw InputError(folder.string() + " is a file, expected a folder for the run");
  if (fs::is_empty(folder)) return;
  if (!fs::exists(folder / kConfig)) {
    throw InputError(folder.string() +
                     " exists, is not empty and holds no run (no config.toml): choose another folder");
  }
  const RunConfig found = make_run_config(read_toml(folder / kConfig));
  const auto difference = first_difference(found, config);
  if (!difference) return;
  throw InputError(folder.string() + " holds a run with another configuration: " + difference->key + " is '" +
                   difference->found + "' there and '" + difference->expected + "' here" +
                   (difference->key == "schedule.steps" ? " (it follows train.steps unless it is set)" : "") +
                   "; choose another folder, or the same settings to continue that run");
}

void write_run_folder(const fs::path& folder, const RunConfig& config, const RunFacts& facts) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw InputError(folder.string() + " cannot be created: " + error.message());
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
                 {"entropy_rate", or_null(facts.entropy_rate)}};
  io::atomic_write_file(folder / "run.json", run.dump(1) + "\n");
  io::atomic_write_file(folder / kConfig, to_toml(config));
}

void write_result(const fs::path& folder, const TrainResult& result) {
  const Json json{{"steps", result.step},
                  {"tokens", result.tokens},
                  {"skipped", result.skipped},
                  {"train_loss", or_null(result.train_loss)},
                  {"val_loss", or_null(result.val_loss)},
                  {"tokens_per_s", result.tokens_per_s}};
  io::atomic_write_file(folder / kResult, json.dump(1) + "\n");
}

std::optional<TrainResult> read_result(const fs::path& folder) {
  const fs::path file = folder / kResult;
  if (!fs::exists(file)) return std::nullopt;
  const auto loss = [](const Json& value) { return value.is_null() ? std::nullopt : std::optional<double>(value); };
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
    throw InputError(file.string() + ": " + io::json_reason(error.what()));
  }
}

}  // namespace ufp4
