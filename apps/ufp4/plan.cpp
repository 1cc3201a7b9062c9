// ufp4 plan: what a run will take, before anyone pays for it.
#include "config/plan.h"

#include <fmt/core.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "config/recipes.h"
#include "train/plan_memory.h"
#include "ufp4/error.h"
#include "verbs.h"
#include "whole_number.h"

namespace ufp4::app {
namespace {

using Json = nlohmann::ordered_json;

constexpr double kGiB = 1024.0 * 1024.0 * 1024.0;

struct Options {
  std::string model;
  std::string device = "h200";
  std::vector<std::string> recipes{"bf16", "ufp4", "ufp4_p2"};
  std::vector<std::string> set;
  std::int64_t devices = 1;
  std::optional<double> memory;
  bool json = false;
};

RunConfig config_of(const Options& options, const Recipe& recipe) {
  std::vector<Assignment> assignments{{"model.base", {options.model}, "MODEL", false},
                                      {"train.batch", {std::to_string(4 * options.devices)}, "default", false}};
  bool micro = false;
  for (const std::string& text : options.set) {
    assignments.push_back(parse_override(text, "--set"));
    micro = micro || assignments.back().key == "train.micro_batch";
  }
  RunConfig config = make_run_config(assignments);
  config.recipe = recipe;
  if (config.model.vocab_size == 0) config.model.vocab_size = 32768;
  if (config.train.batch % options.devices != 0) {
    throw InputError(
        fmt::format("train.batch is {}, expected a multiple of --devices, {}", config.train.batch, options.devices));
  }
  // What one device does of the step; all at once unless told otherwise.
  config.train.batch /= options.devices;
  if (!micro) config.train.micro_batch = config.train.batch;
  if (config.train.batch % config.train.micro_batch != 0) {
    throw InputError(fmt::format("train.micro_batch is {}, expected a divisor of the {} sequences of a device",
                                 config.train.micro_batch, config.train.batch));
  }
  return config;
}

Json to_json(const PlanMemory& m) {
  return {{"weights", m.weights}, {"moments", m.moments},         {"operands", m.operands}, {"gradients", m.gradients},
          {"stash", m.stash},     {"activations", m.activations}, {"host", m.host},         {"total", m.total}};
}

Json to_json(const StepTime& t) {
  return {
      {"linears", t.linears}, {"head", t.head},           {"attention", t.attention}, {"quantization", t.quantization},
      {"layers", t.layers},   {"optimizer", t.optimizer}, {"total", t.total()}};
}

void run(const Options& options) {
  const DeviceRates& device = find_device(options.device);
  const double room = options.memory ? *options.memory * kGiB : device.memory;
  Json rows = Json::array();
  RunConfig first;
  for (const std::string& name : options.recipes) {
    const Recipe recipe = parse_recipe_choice(name, "--recipes").recipe;
    const RunConfig config = config_of(options, recipe);
    if (rows.empty()) first = config;
    const std::int64_t tokens = config.train.batch * config.model.context;
    const PlanMemory memory = plan_memory(config, options.devices);
    StepTime time = step_time(config.model, recipe, tokens, device);
    time.optimizer /= static_cast<double>(options.devices);
    rows.push_back({{"recipe", recipe.name},
                    {"bytes", to_json(memory)},
                    {"fits", memory.total <= room},
                    {"seconds", to_json(time)},
                    {"tokens_per_s", static_cast<double>(tokens * options.devices) / time.total()}});
  }
  const std::int64_t tokens = first.train.batch * first.model.context * options.devices;
  const double flops = training_flops_per_token(first.model);
  if (options.json) {
    const Json json{{"model", first.model.name},
                    {"parameters", parameter_count(first.model)},
                    {"non_embedding_parameters", non_embedding_parameter_count(first.model)},
                    {"flops_per_token", flops},
                    {"tokens_per_step", tokens},
                    {"device", device.name},
                    {"devices", options.devices},
                    {"memory", room},
                    {"recipes", rows}};
    fmt::print("{}\n", json.dump(1));
    return;
  }
  fmt::print("{}: {} parameters, {} without embeddings; vocabulary {}, context {}; {:.4g} FLOPs a token\n",
             first.model.name, parameter_count(first.model), non_embedding_parameter_count(first.model),
             first.model.vocab_size, first.model.context, flops);
  fmt::print("{} tokens a step on {} x {} ({}), micro-batches of {} sequences{}\n\n", tokens, options.devices,
             device.name, device.summary, first.train.micro_batch,
             options.devices > 1 ? "; state shared out among the devices, no time of communication" : "");
  fmt::print("GiB a device{:<10} {:>8} {:>8} {:>8} {:>9} {:>7} {:>11} {:>8}\n", "", "weights", "moments", "operands",
             "gradients", "stash", "activations", "at most");
  for (const Json& row : rows) {
    const auto gib = [&](const char* key) { return row["bytes"][key].get<double>() / kGiB; };
    fmt::print("{:<22} {:>8.1f} {:>8.1f} {:>8.1f} {:>9.1f} {:>7.1f} {:>11.1f} {:>8.1f}{}\n",
               row["recipe"].get<std::string>(), gib("weights"), gib("moments"), gib("operands"), gib("gradients"),
               gib("stash"), gib("activations"), gib("total"),
               row["fits"].get<bool>() ? "" : fmt::format("  more than the {:.0f} of the device", room / kGiB));
  }
  fmt::print("\nms a step{:<13} {:>8} {:>8} {:>9} {:>8} {:>8} {:>9} {:>8} {:>10}\n", "", "linears", "LM head",
             "attention", "quantize", "layers", "optimizer", "step", "tokens/s");
  for (const Json& row : rows) {
    const auto ms = [&](const char* key) { return 1e3 * row["seconds"][key].get<double>(); };
    fmt::print("{:<22} {:>8.1f} {:>8.1f} {:>9.1f} {:>8.1f} {:>8.1f} {:>9.1f} {:>8.1f} {:>10.0f}\n",
               row["recipe"].get<std::string>(), ms("linears"), ms("head"), ms("attention"), ms("quantization"),
               ms("layers"), ms("optimizer"), ms("total"), row["tokens_per_s"].get<double>());
  }
}

}  // namespace

void add_plan(CLI::App& program) {
  CLI::App* verb =
      program.add_subcommand("plan", "Tell what a run will take: parameters, FLOPs, bytes, time of a step");
  const auto options = std::make_shared<Options>();
  verb->add_option("MODEL", options->model, "A model by name, or a TOML file")->required();
  verb->add_option("--recipes", options->recipes, "Recipes by name or file (bf16,ufp4,ufp4_p2)")->delimiter(',');
  verb->add_option("--devices", options->devices, "Devices that share the state and the batch (1)")
      ->check(whole_number(1, 1 << 20));
  verb->add_option("--memory", options->memory, "GiB of a device (that of --on)")->check(CLI::Range(0.001, 1e6));
  verb->add_option("--on", options->device, "The device whose measured rates count")->capture_default_str();
  verb->add_option("--set", options->set, "Sets one setting, such as train.batch or model.context; may be repeated")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  verb->add_flag("--json", options->json, "Prints the plan as JSON");
  verb->footer(
      "Example:\n"
      "  ufp4 plan 1.5b --devices 8 --set train.batch=64 --set model.vocab_size=32000");
  verb->callback([options] { run(*options); });
}

}  // namespace ufp4::app
