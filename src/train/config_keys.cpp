#include "train/config_keys.h"

#include <algorithm>
#include <charconv>

#include "ufp4/error.h"

namespace ufp4 {
namespace {

constexpr double kMaxSteps = 1e9;
constexpr double kMaxBatch = 1 << 20;

// The slot of a key is an expression on the configuration `c`.
#define UFP4_SLOT(member) [](RunConfig& c) -> Slot { return &c.member; }

const std::vector<ConfigKey>& table() {
  static const std::vector<ConfigKey> keys{
      {"data.train",
       UFP4_SLOT(data.train),
       0,
       0,
       {},
       false,
       "files to train on (.txt, .jsonl, .jsonl.zst, .bin), or 'builtin' for the built-in language"},
      {"data.val",
       UFP4_SLOT(data.val),
       0,
       0,
       {},
       false,
       "files for validation; empty: a share of the documents of data.train"},
      {"data.val_fraction",
       UFP4_SLOT(data.val_fraction),
       0,
       0.5,
       {},
       false,
       "share of the documents held out where data.val is empty; 0: no validation"},
      {"data.val_tokens",
       UFP4_SLOT(data.val_tokens),
       0,
       1e12,
       {},
       false,
       "tokens of one validation, the same each time; 0: all there are"},

      {"optimizer.lr",
       UFP4_SLOT(optimizer.lr),
       0,
       10,
       {},
       false,
       "peak learning rate of AdamW; 0: 0.0014 * sqrt(256 / model.d_model)"},
      {"optimizer.beta1", UFP4_SLOT(optimizer.beta1), 0, 0.9999, {}, false, "decay of the mean of the gradient"},
      {"optimizer.beta2", UFP4_SLOT(optimizer.beta2), 0, 0.999999, {}, false, "decay of the mean of its square"},
      {"optimizer.epsilon", UFP4_SLOT(optimizer.epsilon), 1e-15, 1, {}, false, "added to the root of that mean"},
      {"optimizer.weight_decay",
       UFP4_SLOT(optimizer.weight_decay),
       0,
       10,
       {},
       false,
       "decoupled weight decay of matrices; norms have none"},
      {"optimizer.clip",
       UFP4_SLOT(optimizer.clip),
       0,
       1e9,
       {},
       false,
       "largest global norm of the gradient, larger ones are scaled down to it; 0: no limit"},

      {"schedule.kind",
       UFP4_SLOT(schedule.kind),
       0,
       0,
       {"wsd", "cosine", "constant"},
       false,
       "course of the learning rate after warmup: stable then linear decay (wsd), cosine, or constant"},
      {"schedule.steps",
       UFP4_SLOT(schedule.steps),
       0,
       kMaxSteps,
       {},
       false,
       "length of the schedule; 0: train.steps. Set it to train the first part of a longer run now and the rest later"},
      {"schedule.warmup", UFP4_SLOT(schedule.warmup), 0, 1, {}, false, "share of the steps with linear warmup"},
      {"schedule.decay", UFP4_SLOT(schedule.decay), 0, 1, {}, false, "share of the steps with decay at the end (wsd)"},
      {"schedule.final",
       UFP4_SLOT(schedule.final),
       0,
       1,
       {},
       false,
       "learning rate at the end, as a share of the peak"},

      {"train.steps", UFP4_SLOT(train.steps), 1, kMaxSteps, {}, true, "optimizer steps"},
      {"train.batch", UFP4_SLOT(train.batch), 1, kMaxBatch, {}, false, "sequences a step"},
      {"train.micro_batch",
       UFP4_SLOT(train.micro_batch),
       0,
       kMaxBatch,
       {},
       false,
       "sequences at a time, whose gradients are added up; divides train.batch; 0: train.batch"},
      {"train.seed",
       UFP4_SLOT(train.seed),
       0,
       9e15,
       {},
       false,
       "of initial weights, order of the data, stochastic rounding and Hadamard signs"},
      {"train.device",
       UFP4_SLOT(train.device),
       0,
       0,
       {"auto", "cpu", "cuda"},
       false,
       "auto: cuda where there is one whose kernels know the formats of the recipe and the shapes of the model"},
      {"train.stash",
       UFP4_SLOT(train.stash),
       0,
       0,
       {"packed", "none"},
       true,
       "what a quantized linear keeps of its input for the backward pass; packed: its operand in 4 bits; none: "
       "nothing, "
       "the operand is made of what other layers keep anyway; changes memory, no result"},
      {"train.attention",
       UFP4_SLOT(train.attention),
       0,
       0,
       {"reproducible", "fast"},
       false,
       "attention on a GPU: reproducible to the bit, or what torch finds fastest, whose sums may differ from run to "
       "run"},
      {"train.graph",
       UFP4_SLOT(train.graph),
       0,
       0,
       {"on", "off"},
       true,
       "whether a GPU replays a recording of the step (a CUDA graph) instead of being told every kernel; changes no "
       "result"},
      {"train.producers",
       UFP4_SLOT(train.producers),
       0,
       0,
       {"fused", "separate"},
       true,
       "whether norm, SwiGLU and the gradient of the rotary positions quantize what they make in one kernel, where the "
       "device has such; changes no result"},
      {"train.gemm",
       UFP4_SLOT(train.gemm),
       0,
       0,
       {"auto", "emulated"},
       false,
       "what multiplies quantized operands; auto: FP8 tensor cores where the device has them and both operands are "
       "exact "
       "E4M3 numbers (int4_p2), else BF16; emulated: BF16 always"},
      {"train.offload_layers",
       UFP4_SLOT(train.offload_layers),
       0,
       9e15,
       {},
       true,
       "in how many layers, from the first on but never the last, the result of linear_fc1, the largest activation, "
       "waits for the backward pass in the memory of the host, copied beside the work of the GPU; changes memory, no "
       "result"},
      {"train.recompute",
       UFP4_SLOT(train.recompute),
       0,
       0,
       {"none", "ffn"},
       true,
       "what the backward pass makes anew instead of keeping it; ffn: the result of linear_fc1, for a GEMM more; "
       "changes memory, no result"},
      {"train.recompute_layers",
       UFP4_SLOT(train.recompute_layers),
       0,
       9e15,
       {},
       true,
       "in how many layers, after those of train.offload_layers, train.recompute applies; 0: in all"},
      {"train.threads", UFP4_SLOT(train.threads), 0, 4096, {}, true, "threads of the CPU; 0: all cores"},
      {"train.log_every", UFP4_SLOT(train.log_every), 1, kMaxSteps, {}, true, "steps between lines of the log"},
      {"train.eval_every",
       UFP4_SLOT(train.eval_every),
       0,
       kMaxSteps,
       {},
       true,
       "steps between validations; 0: at the end only"},
      {"train.checkpoint_every",
       UFP4_SLOT(train.checkpoint_every),
       0,
       kMaxSteps,
       {},
       true,
       "steps between checkpoints; 0: at the end only"},
      {"train.keep_checkpoints", UFP4_SLOT(train.keep_checkpoints), 1, 1e6, {}, true, "how many of the newest stay"},
      {"train.max_skipped",
       UFP4_SLOT(train.max_skipped),
       1,
       kMaxSteps,
       {},
       true,
       "steps skipped in a row for a loss or gradient that is not finite, before the run fails"},
      {"train.analyze_every",
       UFP4_SLOT(train.analyze_every),
       0,
       kMaxSteps,
       {},
       true,
       "steps between measurements of every linear's operands (analysis.jsonl); changes no result; 0: none"},
      {"train.analyze_tokens",
       UFP4_SLOT(train.analyze_tokens),
       0,
       kMaxBatch,
       {},
       true,
       "tokens of the step's first micro-batch to measure; 0: all of it"},
      {"train.analyze_formats",
       UFP4_SLOT(train.analyze_formats),
       0,
       0,
       {},
       true,
       "formats to measure the operands under, beside the recipe's own, each without and with the transform"},
  };
  return keys;
}

#undef UFP4_SLOT

template <class T>
bool parse_whole(std::string_view text, T& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

[[noreturn]] void throw_bad_value(const ConfigKey& key, const Assignment& assignment) {
  std::string value;
  for (const std::string& item : assignment.value) value += (value.empty() ? "" : ", ") + item;
  throw InputError(assignment.where + ": " + std::string(key.name) + " is '" + value + "', expected " +
                   expectation(key));
}

// Files given in one text stand with commas between them.
std::vector<std::string> split_list(const std::vector<std::string>& value) {
  if (value.size() != 1) return value;
  std::vector<std::string> items;
  std::string_view rest = value.front();
  while (!rest.empty()) {
    const std::size_t comma = std::min(rest.find(','), rest.size());
    if (comma > 0) items.emplace_back(rest.substr(0, comma));
    rest.remove_prefix(std::min(comma + 1, rest.size()));
  }
  return items;
}

template <class... F>
struct Overload : F... {
  using F::operator()...;
};
template <class... F>
Overload(F...) -> Overload<F...>;  // Clang 14 does not deduce it

}  // namespace

std::span<const ConfigKey> config_keys() { return table(); }

const ConfigKey* find_key(std::string_view name) {
  const auto keys = config_keys();
  const auto found = std::find_if(keys.begin(), keys.end(), [&](const ConfigKey& key) { return key.name == name; });
  return found == keys.end() ? nullptr : &*found;
}

std::string expectation(const ConfigKey& key) {
  RunConfig config;
  const Slot slot = key.slot(config);
  if (std::holds_alternative<std::vector<std::string>*>(slot)) return "a list of names";
  if (std::holds_alternative<std::string*>(slot)) {
    std::string text = "one of";
    for (const std::string_view choice : key.choices) text += (text == "one of" ? " " : ", ") + std::string(choice);
    return text;
  }
  const bool whole = std::holds_alternative<std::int64_t*>(slot);
  const auto bound = [&](double value) {
    return whole ? std::to_string(static_cast<std::int64_t>(value)) : number_text(value);
  };
  return std::string(whole ? "a whole number from " : "a number from ") + bound(key.min) + " to " + bound(key.max);
}

void assign(RunConfig& config, const ConfigKey& key, const Assignment& assignment) {
  const Slot slot = key.slot(config);
  if (auto* const* list = std::get_if<std::vector<std::string>*>(&slot)) {
    **list = split_list(assignment.value);
    return;
  }
  if (assignment.value.size() != 1) throw_bad_value(key, assignment);
  const std::string& text = assignment.value.front();
  const auto in_range = [&](auto value) {
    return static_cast<double>(value) >= key.min && static_cast<double>(value) <= key.max;
  };
  const bool good = std::visit(Overload{
                                   [&](std::string* value) {
                                     *value = text;
                                     return key.choices.empty() || std::find(key.choices.begin(), key.choices.end(),
                                                                             text) != key.choices.end();
                                   },
                                   [&](std::vector<std::string>*) { return true; },
                                   [&](auto* value) { return parse_whole(text, *value) && in_range(*value); },
                               },
                               slot);
  if (!good) throw_bad_value(key, assignment);
}

std::vector<std::string> value_of(const RunConfig& config, const ConfigKey& key) {
  // A slot is a pointer into a configuration that may be written; reading goes through a copy of the settings.
  RunConfig copy;
  copy.data = config.data;
  copy.optimizer = config.optimizer;
  copy.schedule = config.schedule;
  copy.train = config.train;
  return std::visit(Overload{
                        [](std::vector<std::string>* value) { return *value; },
                        [](std::string* value) { return std::vector<std::string>{*value}; },
                        [](std::int64_t* value) { return std::vector<std::string>{std::to_string(*value)}; },
                        [](double* value) { return std::vector<std::string>{number_text(*value)}; },
                    },
                    key.slot(copy));
}

}  // namespace ufp4
