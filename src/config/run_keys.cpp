#include "config/run_keys.h"

namespace ufp4 {
namespace {

constexpr double kMaxSteps = 1e9;
constexpr double kMaxBatch = 1 << 20;
constexpr double kMaxCount = 9e15;  // whole numbers up to here are exact as a double

}  // namespace

std::span<const Key<RunConfig>> run_keys() {
  static const std::vector<Key<RunConfig>> keys{
      key<&RunConfig::data, &DataSettings::train>(
          "data.train", {},
          "files to train on (.txt, .jsonl, .jsonl.zst, .bin), or 'builtin' for the built-in language",
          {.option = "--data"}),
      key<&RunConfig::data, &DataSettings::weights>(
          "data.weights", {},
          "how often each file of data.train is drawn from, relative to the others; empty: they are one text. A TOML "
          "file may say both: train = [{path = \"a.bin\", weight = 2}, ..]"),
      key<&RunConfig::data, &DataSettings::val>(
          "data.val", {}, "files for validation; empty: a share of the documents of data.train", {.option = "--val"}),
      key<&RunConfig::data, &DataSettings::format>(
          "data.format", {},
          "what .bin files are: token shards of ufp4, or tokens of another program; auto tells all but nanogpt apart",
          {.words = "auto, ufp4, llm.c, nanogpt or megatron"}),
      key<&RunConfig::data, &DataSettings::vocab_size>(
          "data.vocab_size", {0, 1 << 24},
          "different tokens of .bin files that do not tell (megatron); 0: that of the format"),
      key<&RunConfig::data, &DataSettings::separator>("data.separator", {-1, 1 << 24},
                                                      "the token that ends a document there; -1: that of the format"),
      key<&RunConfig::data, &DataSettings::val_fraction>(
          "data.val_fraction", {0, 0.5}, "share of the documents held out where data.val is empty; 0: no validation"),
      key<&RunConfig::data, &DataSettings::val_tokens>(
          "data.val_tokens", {0, 1e12}, "tokens of one validation, the same each time; 0: all there are"),

      key<&RunConfig::optimizer, &OptimizerSettings::lr>(
          "optimizer.lr", {0, 10}, "peak learning rate of AdamW; 0: 0.0014 * sqrt(256 / model.d_model)"),
      key<&RunConfig::optimizer, &OptimizerSettings::beta1>("optimizer.beta1", {0, 0.9999},
                                                            "decay of the mean of the gradient"),
      key<&RunConfig::optimizer, &OptimizerSettings::beta2>("optimizer.beta2", {0, 0.999999},
                                                            "decay of the mean of its square"),
      key<&RunConfig::optimizer, &OptimizerSettings::epsilon>("optimizer.epsilon", {1e-15, 1},
                                                              "added to the root of that mean"),
      key<&RunConfig::optimizer, &OptimizerSettings::weight_decay>(
          "optimizer.weight_decay", {0, 10}, "decoupled weight decay of matrices; norms have none"),
      key<&RunConfig::optimizer, &OptimizerSettings::clip>(
          "optimizer.clip", {0, 1e9},
          "largest global norm of the gradient, larger ones are scaled down to it; 0: no limit"),

      key<&RunConfig::schedule, &ScheduleSettings::kind>(
          "schedule.kind", {},
          "course of the learning rate after warmup: stable then linear decay (wsd), cosine, or constant"),
      key<&RunConfig::schedule, &ScheduleSettings::steps>("schedule.steps", {0, kMaxSteps},
                                                          "length of the schedule; 0: train.steps. Set it to train the "
                                                          "first part of a longer run now and the rest later"),
      key<&RunConfig::schedule, &ScheduleSettings::warmup>("schedule.warmup", {0, 1},
                                                           "share of the steps with linear warmup"),
      key<&RunConfig::schedule, &ScheduleSettings::decay>("schedule.decay", {0, 1},
                                                          "share of the steps with decay at the end (wsd)"),
      key<&RunConfig::schedule, &ScheduleSettings::final>("schedule.final", {0, 1},
                                                          "learning rate at the end, as a share of the peak"),

      key<&RunConfig::train, &TrainSettings::steps>("train.steps", {1, kMaxSteps}, "optimizer steps",
                                                    {.may_change = true, .option = "--steps"}),
      key<&RunConfig::train, &TrainSettings::batch>("train.batch", {1, kMaxBatch}, "sequences a step"),
      key<&RunConfig::train, &TrainSettings::micro_batch>(
          "train.micro_batch", {0, kMaxBatch},
          "sequences at a time, whose gradients are added up; divides train.batch; 0: train.batch"),
      key<&RunConfig::train, &TrainSettings::seed>(
          "train.seed", {0, kMaxCount},
          "seeds initial weights, the order of the data, stochastic rounding and Hadamard signs"),
      key<&RunConfig::train, &TrainSettings::init>(
          "train.init", {},
          "run, checkpoint or imported model whose weights the run begins with; empty: drawn from train.seed",
          {.option = "--init", .words = "a folder"}),
      key<&RunConfig::train, &TrainSettings::device>(
          "train.device", {},
          "auto: cuda where there is one whose kernels know the formats of the recipe and the shapes of the model",
          {.option = "--device"}),
      key<&RunConfig::train, &TrainSettings::stash>(
          "train.stash", {},
          "what a quantized linear keeps of its input for the backward pass; packed: its operand in 4 bits; none: "
          "nothing, the operand is made of what other layers keep anyway; changes memory, no result",
          {.may_change = true}),
      key<&RunConfig::train, &TrainSettings::attention>("train.attention", {},
                                                        "attention on a GPU: reproducible to the bit, or what torch "
                                                        "finds fastest, whose sums may differ from run to run"),
      key<&RunConfig::train, &TrainSettings::graph>("train.graph", {},
                                                    "whether a GPU replays a recording of the step (a CUDA graph) "
                                                    "instead of being told every kernel; changes no result",
                                                    {.may_change = true}),
      key<&RunConfig::train, &TrainSettings::producers>(
          "train.producers", {},
          "whether norm, SwiGLU and the gradient of the rotary positions quantize what they make in one kernel, where "
          "the device has such; changes no result",
          {.may_change = true}),
      key<&RunConfig::train, &TrainSettings::gemm>(
          "train.gemm", {},
          "what multiplies quantized operands; auto: exact integers where both operands are int4_i4 with equal "
          "segments, FP8 tensor cores where the device has them and both are int4_p2, else BF16; emulated: BF16 "
          "always"),
      key<&RunConfig::train, &TrainSettings::offload_layers>(
          "train.offload_layers", {0, kMaxCount},
          "in how many layers, from the first on but never the last, the result of linear_fc1, the largest activation, "
          "waits for the backward pass in the memory of the host, copied beside the work of the GPU; changes memory, "
          "no result",
          {.may_change = true}),
      key<&RunConfig::train, &TrainSettings::recompute>(
          "train.recompute", {},
          "what the backward pass makes anew instead of keeping it; ffn: the result of linear_fc1, for a GEMM more; "
          "changes memory, no result",
          {.may_change = true}),
      key<&RunConfig::train, &TrainSettings::recompute_layers>(
          "train.recompute_layers", {0, kMaxCount},
          "in how many layers, after those of train.offload_layers, train.recompute applies; 0: in all",
          {.may_change = true}),
      key<&RunConfig::train, &TrainSettings::threads>("train.threads", {0, 4096}, "threads of the CPU; 0: all cores",
                                                      {.may_change = true}),
      key<&RunConfig::train, &TrainSettings::log_every>("train.log_every", {1, kMaxSteps},
                                                        "steps between lines of the log", {.may_change = true}),
      key<&RunConfig::train, &TrainSettings::eval_every>(
          "train.eval_every", {0, kMaxSteps}, "steps between validations; 0: at the end only", {.may_change = true}),
      key<&RunConfig::train, &TrainSettings::checkpoint_every>("train.checkpoint_every", {0, kMaxSteps},
                                                               "steps between checkpoints; 0: at the end only",
                                                               {.may_change = true}),
      key<&RunConfig::train, &TrainSettings::keep_checkpoints>("train.keep_checkpoints", {1, 1e6},
                                                               "how many of the newest stay", {.may_change = true}),
      key<&RunConfig::train, &TrainSettings::max_skipped>(
          "train.max_skipped", {1, kMaxSteps},
          "steps skipped in a row for a loss or gradient that is not finite, before the run fails",
          {.may_change = true}),
      key<&RunConfig::train, &TrainSettings::analyze_every>(
          "train.analyze_every", {0, kMaxSteps},
          "steps between measurements of every linear's operands (analysis.jsonl); changes no result; 0: none",
          {.may_change = true, .option = "--analyze-every"}),
      key<&RunConfig::train, &TrainSettings::analyze_tokens>(
          "train.analyze_tokens", {0, kMaxBatch}, "tokens of the step's first micro-batch to measure; 0: all of it",
          {.may_change = true}),
      key<&RunConfig::train, &TrainSettings::analyze_formats>(
          "train.analyze_formats", {},
          "formats to measure the operands under, beside the recipe's own, each without and with the transform",
          {.may_change = true}),
  };
  return keys;
}

std::span<const KeyFacts> base_keys() {
  constexpr std::string_view kWords = "a name or a file";
  static const std::vector<KeyFacts> keys{
      {"model.base",
       {.choices = {}, .words = kWords},
       "the model from which the other model.* keys start",
       {.option = "--model", .initial = "none"}},
      {"recipe.base",
       {.choices = {}, .words = kWords},
       "the recipe from which the other recipe.* keys start",
       {.option = "--recipe", .initial = kDefaultRecipe}},
  };
  return keys;
}

}  // namespace ufp4
