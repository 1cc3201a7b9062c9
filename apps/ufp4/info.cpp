// ufp4 info: what was built, what this machine has, and what is chosen.
#include <fmt/core.h>
#include <fmt/ranges.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "config/model_config.h"
#include "config/recipes.h"
#include "machine.h"
#include "ufp4/backend.h"
#include "verbs.h"
#ifdef UFP4_TORCH
#include "train/run_folder.h"
#endif

namespace ufp4::app {
namespace {

#ifdef __clang__
constexpr std::string_view kCompiler = "Clang " __clang_version__;
#else
constexpr std::string_view kCompiler = "GCC " __VERSION__;
#endif

nlohmann::ordered_json collect() {
  using Json = nlohmann::ordered_json;
  Json info{{"version", UFP4_VERSION}, {"compiler", kCompiler}, {"build_type", UFP4_BUILD_TYPE}};
#ifdef UFP4_TORCH
  info["torch"] = torch_version();
#else
  info["torch"] = nullptr;
#endif
  info["cpu"] = {{"model", cpu_model()}, {"features", cpu_features()}};
  info["backends"] = Json::array();
  for (const Backend* backend : backends()) {
    info["backends"].push_back({{"name", backend->name()},
                                {"description", backend->description()},
                                {"device", backend->device()},
                                {"available", backend->available()},
                                {"chosen", backend == &default_backend()}});
  }
  info["models"] = Json::array();
  for (const std::string_view name : model_names()) {
    const ModelConfig model = load_model_config(std::string(name));
    info["models"].push_back({{"name", name},
                              {"summary", model.summary},
                              {"parameters_without_embeddings", non_embedding_parameter_count(model)}});
  }
  info["recipes"] = Json::array();
  for (const std::string_view name : known_recipes()) {
    info["recipes"].push_back({{"name", name}, {"summary", load_recipe(std::string(name)).summary}});
  }
  return info;
}

void print_text(const nlohmann::ordered_json& info) {
  const auto text = [](const auto& value) { return value.template get<std::string>(); };
  fmt::print("ufp4 {}, {} build by {}\n", text(info["version"]), text(info["build_type"]), text(info["compiler"]));
  fmt::print("torch: {}\n", info["torch"].is_null() ? "not built in (no train, no compare)" : text(info["torch"]));
  fmt::print("cpu: {}\n     {}\n", text(info["cpu"]["model"]),
             fmt::join(info["cpu"]["features"].get<std::vector<std::string>>(), " "));
  fmt::print("backends, the preferred first:\n");
  for (const auto& backend : info["backends"]) {
    const char* state = backend["chosen"] ? "chosen" : backend["available"] ? "available" : "not on this machine";
    fmt::print("  {:<12} {:<20} {}\n", text(backend["name"]), state, text(backend["description"]));
  }
  fmt::print("models, with their parameters without embeddings:\n");
  for (const auto& model : info["models"]) {
    fmt::print("  {:<12} {:>14}  {}\n", text(model["name"]), model["parameters_without_embeddings"].get<std::int64_t>(),
               text(model["summary"]));
  }
  if (!info["recipes"].empty()) fmt::print("recipes:\n");
  for (const auto& recipe : info["recipes"]) {
    fmt::print("  {:<24} {}\n", text(recipe["name"]), text(recipe["summary"]));
  }
}

}  // namespace

void add_info(CLI::App& program) {
  CLI::App* verb = program.add_subcommand("info", "Show version, build, processor, backends, models and recipes");
  const auto json = std::make_shared<bool>(false);
  verb->add_flag("--json", *json, "Print JSON for programs");
  verb->footer("Example:\n  ufp4 info --json");
  verb->callback([json] {
    const nlohmann::ordered_json info = collect();
    *json ? fmt::print("{}\n", info.dump(2)) : print_text(info);
  });
}

}  // namespace ufp4::app
