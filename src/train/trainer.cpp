#include "train/trainer.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "data/dataset.h"
#include "io/checkpoint_folders.h"
#include "io/checksum.h"
#include "io/file.h"
#include "io/held_folder.h"
#include "io/tokenizer_file.h"
#include "model/transformer.h"
#include "torch/phase.h"
#include "torch/products.h"
#include "torch/window.h"
#include "train/carried_tokenizer.h"
#include "train/checkpoint.h"
#include "train/device.h"
#include "train/memory.h"
#include "train/operand_analysis.h"
#include "train/optimizer.h"
#include "train/peak.h"
#include "train/run_folder.h"
#include "train/schedule.h"
#include "train/torch_error.h"
#include "train/training_step.h"
#include "train/watch.h"
#include "ufp4/backend.h"
#include "ufp4/error.h"

namespace ufp4 {
namespace {

using Clock = std::chrono::steady_clock;

// cuDNN's backward pass adds in an order that varies, whatever it is told.
void choose_attention(AttentionKind kind) { at::globalContext().setSDPUseCuDNN(kind == AttentionKind::kFast); }

void check_vocabulary(RunConfig& config, const Dataset& data) {
  if (config.model.vocab_size == 0) config.model.vocab_size = padded_vocabulary(data.vocab_size());
  if (config.model.vocab_size < data.vocab_size()) {
    throw InputError("model.vocab_size is " + std::to_string(config.model.vocab_size) + ", but the data has " +
                     std::to_string(data.vocab_size()) + " different tokens");
  }
}

DataConfig data_config(const RunConfig& config) {
  DataConfig data;
  data.train_files = config.data.train;
  for (const std::string& weight : config.data.weights) data.weights.push_back(std::stod(weight));
  data.val_files = config.data.val;
  data.tokens = {config.data.format, config.data.vocab_size, config.data.separator};
  data.val_fraction = config.data.val_fraction;
  data.val_tokens = config.data.val_tokens;
  data.sequence_length = config.model.context;
  data.seed = static_cast<std::uint64_t>(config.train.seed);
  return data;
}

NamedTensors named_tensors(const std::vector<NamedParameter>& parameters) {
  NamedTensors tensors;
  for (const NamedParameter& parameter : parameters) tensors.emplace_back(parameter.name, parameter.tensor);
  return tensors;
}

// What is known of the text whatever its files are called.
DataIdentity identity_of(const Dataset& data) {
  std::string sums;
  std::vector<std::int32_t> sequence(static_cast<std::size_t>(data.sequence_length()) + 1);
  for (std::int64_t i = 0; i < data.val_sequences(); ++i) {
    data.val_sequence(i, sequence);
    sums += io::checksum(std::as_bytes(std::span(sequence)));
  }
  return {std::to_string(data.fingerprint()), io::checksum(std::as_bytes(std::span(sums)))};
}

// Blocks of wgrad run along the tokens of a micro-batch. One whose tokens do not fill its last block cuts the blocks
// elsewhere than one large batch does.
std::optional<std::string> warning_of_cut_blocks(const RunConfig& config) {
  const std::int64_t tokens = config.train.micro_batch * config.model.context;
  if (config.train.micro_batch == config.train.batch) return std::nullopt;
  const GemmRecipe& wgrad = config.recipe[Gemm::kWgrad];
  std::int64_t run = 0;
  for (const OperandSpec& operand : wgrad.operand) {
    if (operand.quantized()) run = std::max<std::int64_t>({run, operand.block_size(), operand.hadamard.size});
  }
  if (run == 0 || tokens % run == 0) return std::nullopt;
  return "a micro-batch has " + std::to_string(tokens) + " tokens, no multiple of " + std::to_string(run) +
         ": the blocks of wgrad are cut elsewhere than in a batch at once, and its results differ (train.micro_batch "
         "is " +
         std::to_string(config.train.micro_batch) + ", model.context " + std::to_string(config.model.context) + ")";
}

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// Only where the recipe has operands whose amax is that of the step before.
std::optional<Windows> make_windows(const RunConfig& config, const Transformer& model, const at::Device& device) {
  for (const GemmRecipe& gemm : config.recipe.gemm) {
    for (const OperandSpec& operand : gemm.operand) {
      if (operand.outer.amax != AmaxSource::kDelayed) continue;
      return Windows(static_cast<std::int64_t>(model.linears().size()), device);
    }
  }
  return std::nullopt;
}

// A run whose settings are checked, from its last checkpoint on.
class Run {
 public:
  Run(const RunConfig& config, at::Device device, const ChosenProducts& products, std::optional<double> peak_tflops,
      Dataset& data, const std::filesystem::path& folder, const TrainEvents& events)
      : config_(config),
        device_(device),
        peak_tflops_(peak_tflops),
        data_(data),
        folder_(folder),
        events_(events),
        model_(config.model, config.recipe, model_options(products)),
        weights_(named_tensors(model_.parameters())),
        optimizer_(model_.parameters(), config.optimizer),
        windows_(make_windows(config, model_, device)),
        training_step_(config, device, model_, optimizer_, windows_ ? &*windows_ : nullptr),
        checkpoints_(folder / "checkpoints", config.train.keep_checkpoints,
                     [this](const std::filesystem::path& checkpoint, const RunState& state) {
                       check_same_run(checkpoint, state);
                     }) {
    if (windows_) frozen_windows_ = windows_->frozen();
    auto state = checkpoints_.load_newest(weights_, training_state(), events.warning,
                                          [this](const RunState& found) { data_.restore(found.data); });
    if (state) {
      resume(std::move(*state));
    } else if (!config.train.init.empty()) {
      begin_from(config.train.init);
    }
  }

  TrainResult go(const std::atomic<bool>& stop) {
    checkpoints_.remove_remains();
    const bool had_metrics = std::filesystem::exists(folder_ / "metrics.jsonl");
    metrics_.emplace(folder_ / "metrics.jsonl", state_.step);
    tell_of_lost_metrics(had_metrics);
    start_analysis();
    while (state_.step < config_.train.steps && !stop) {
      const StepMetrics step = train_step();
      metrics_->write(step);
      if (events_.step) events_.step(step);
      guard_against_divergence(step);
      if (!step.skipped) warn(loss_watch_.see(step.step, step.loss));
      if (due(config_.train.eval_every)) validate();
      if (due(config_.train.checkpoint_every) || stop) save();
    }
    if (saved_step_ != state_.step) save();
    return result();
  }

 private:
  // What a checkpoint holds beside the weights.
  NamedTensors training_state() const {
    NamedTensors state = optimizer_.state();
    if (windows_) state.emplace_back("window_amax", windows_->seen());
    return state;
  }

  TransformerOptions model_options(const ChosenProducts& products) const {
    return {.seed = static_cast<std::uint64_t>(config_.train.seed),
            .device = device_,
            .stash = config_.train.stash == StashKind::kPacked ? Stash::kPacked : Stash::kNone,
            .weight_life = config_.train.micro_batch == config_.train.batch ? WeightLife::kPass : WeightLife::kStep,
            .fused = config_.train.producers == Producers::kFused,
            .offload_layers = offloaded_layers(config_),
            .recompute_layers = recomputed_layers(config_),
            .products = std::make_shared<const ChosenProducts>(products)};
  }

  // A whole checkpoint may have been put here from elsewhere.
  void check_same_run(const std::filesystem::path& checkpoint, const RunState& state) const {
    const RunConfig found = make_run_config(read_toml(checkpoint / "config.toml"));
    if (const auto difference = difference_of_runs(found, config_)) {
      throw InputError(checkpoint.string() + " is of another run: " + difference->key + " is '" + difference->found +
                       "' there and '" + difference->expected + "' here");
    }
    if (const std::string own = std::to_string(data_.fingerprint()); state.data_fingerprint != own) {
      throw InputError(checkpoint.string() + " was trained on other data: its fingerprint is " +
                       state.data_fingerprint + " there and " + own + " here");
    }
  }

  void tell_of_lost_metrics(bool had_metrics) const {
    if (state_.step == 0 || !events_.warning) return;
    const std::filesystem::path file = folder_ / "metrics.jsonl";
    const auto lines = static_cast<std::int64_t>(read_metrics(file).steps.size());
    if (lines >= state_.step) return;
    events_.warning(file.string() + (had_metrics ? " has lines of " + std::to_string(lines) : " is gone with those") +
                    " of the " + std::to_string(state_.step) +
                    " steps done; the rest of them is lost, weights and coming losses are not touched");
  }

  // The weights of another run's checkpoint, or of an imported model.
  void begin_from(const std::filesystem::path& path) {
    const std::filesystem::path checkpoint = io::find_checkpoint(path);
    io::verify_checkpoint(checkpoint);
    load_tensors(checkpoint / "model.safetensors", weights_);
    if (events_.info) events_.info("begins with the weights of " + checkpoint.string());
  }

  void resume(RunState state) {
    if (state.step > config_.train.steps) {
      throw InputError(folder_.string() + ": the run is at step " + std::to_string(state.step) + ", train.steps is " +
                       std::to_string(config_.train.steps) + "; give at least as many");
    }
    state_ = std::move(state);
    saved_step_ = state_.step;
    if (events_.info) events_.info("continues after step " + std::to_string(state_.step));
  }

  bool due(std::int64_t every) const {
    return state_.step == config_.train.steps || (every > 0 && state_.step % every == 0);
  }

  // [sequences, T + 1] int32.
  template <class Fill>
  at::Tensor host_batch(std::int64_t sequences, Fill fill) {
    const std::int64_t length = config_.model.context + 1;
    at::Tensor tokens = at::empty({sequences, length}, at::kInt);
    fill(std::span(tokens.mutable_data_ptr<std::int32_t>(), static_cast<std::size_t>(sequences * length)));
    return tokens;
  }

  // Of a validation, which leaves no trace in the training.
  RandomContext random_context(std::int64_t token_offset) const {
    return {.seed = static_cast<std::uint64_t>(config_.train.seed),
            .step = static_cast<std::uint32_t>(state_.step),
            .token_offset = static_cast<std::uint32_t>(token_offset),
            .windows = frozen_windows_ ? &*frozen_windows_ : nullptr};
  }

  StepMetrics train_step() {
    const auto begin = Clock::now();
    ++state_.step;
    const at::Tensor tokens = [&] {
      const Phase phase("data");
      return host_batch(config_.train.batch, [&](auto span) { data_.next(span); });
    }();
    const double lr = config_.optimizer.lr * learning_rate_factor(config_.schedule, state_.step);
    const bool watch = operands_ && state_.step % config_.train.analyze_every == 0;
    const auto [update, requantized] = training_step_.run(state_.step, lr, tokens, watch ? &*operands_ : nullptr);
    const std::int64_t step_tokens = config_.train.batch * config_.model.context;
    state_.tokens += step_tokens;
    state_.skipped += update.skipped ? 1 : 0;
    state_.skipped_in_row = update.skipped ? state_.skipped_in_row + 1 : 0;

    const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    const double tokens_per_s = static_cast<double>(step_tokens) / seconds;
    const double tflops = tokens_per_s * model_.flops_per_token() * 1e-12;
    return {state_.step,          update.loss,  update.grad_norm, lr,
            state_.tokens,        tokens_per_s, tflops,           peak_tflops_ ? tflops / *peak_tflops_ : 0,
            peak_memory(device_), requantized,  update.skipped};
  }

  // From here on, every train.analyze_every steps, the operands of the linears go to analysis.jsonl.
  void start_analysis() {
    if (config_.train.analyze_every == 0) return;
    OperandAnalysis::Settings settings = operand_settings(config_.train.analyze_formats, config_.train.analyze_tokens);
    analysis_.emplace(folder_ / "analysis.jsonl", state_.step);
    analysis_->write(expected_bins_line(state_.step, settings.schemes, config_.recipe));
    operands_.emplace(config_.recipe, model_.linears(), std::move(settings), [this](const OperandReport& report) {
      analysis_->write(operand_line(state_.step, report));
      watch_operand(report);
    });
  }

  void warn(const std::optional<std::string>& message) const {
    if (message && events_.warning) events_.warning(*message);
  }

  // In the recipe's own format.
  void watch_operand(const OperandReport& report) {
    if (!report.quantized) return;
    const std::string name = report.linear + " " + std::string(report.gemm) + "." + std::string(report.operand);
    warn(sqnr_watch_.see(state_.step, name, report.figures.schemes.front().figures.sqnr_db()));
  }

  void guard_against_divergence(const StepMetrics& step) const {
    if (!step.skipped) return;
    const auto number = [](double value) { return std::to_string(value); };
    if (events_.warning) {
      events_.warning("step " + std::to_string(step.step) + " skipped: loss " + number(step.loss) + ", gradient norm " +
                      number(step.grad_norm) + " (" + std::to_string(state_.skipped) + " skipped so far)");
    }
    if (state_.skipped_in_row < config_.train.max_skipped) return;
    throw RunError(std::to_string(state_.skipped_in_row) +
                   " steps in a row had a loss or gradient that is not finite, the last is step " +
                   std::to_string(step.step) + ": lower optimizer.lr (" + number_text(config_.optimizer.lr) +
                   ") or lengthen schedule.warmup");
  }

  void validate() {
    const std::int64_t count = data_.val_sequences();
    if (count == 0) return;
    const Phase phase("validation");
    const auto length = static_cast<std::size_t>(config_.model.context + 1);
    at::Tensor sum = at::zeros({}, at::TensorOptions().dtype(at::kDouble).device(device_));
    for (std::int64_t first = 0; first < count; first += config_.train.micro_batch) {
      const std::int64_t sequences = std::min(config_.train.micro_batch, count - first);
      const at::Tensor tokens = host_batch(sequences, [&](std::span<std::int32_t> all) {
        for (std::size_t i = 0; i * length < all.size(); ++i) {
          data_.val_sequence(first + static_cast<std::int64_t>(i), all.subspan(i * length, length));
        }
      });
      const at::Tensor loss =
          model_.loss_no_grad(tokens.to(device_, at::kLong), random_context(first * config_.model.context));
      sum += loss.to(at::kDouble) * static_cast<double>(sequences);
    }
    const Validation validation{state_.step, sum.cpu().const_data_ptr<double>()[0] / static_cast<double>(count)};
    metrics_->write(validation);
    if (events_.validation) events_.validation(validation);
  }

  void save() {
    const Phase phase("checkpoint");
    // Else a power cut could leave a checkpoint without the lines before it.
    metrics_->sync();
    if (analysis_) analysis_->sync();
    state_.data = data_.state();
    state_.data_fingerprint = std::to_string(data_.fingerprint());
    checkpoints_.save(state_, to_toml(config_), weights_, training_state());
    saved_step_ = state_.step;
    if (events_.info) events_.info("saved " + checkpoints_.path_of(state_.step).string());
  }

  TrainResult result() const {
    const MetricsHistory history = read_metrics(folder_ / "metrics.jsonl");
    TrainResult result;
    result.finished = state_.step == config_.train.steps;
    result.step = state_.step;
    result.tokens = state_.tokens;
    result.skipped = state_.skipped;
    result.train_loss = final_train_loss(history.steps, state_.step);
    if (!history.validations.empty() && history.validations.back().step == state_.step) {
      result.val_loss = history.validations.back().loss;
    }
    std::vector<double> rates;
    for (const StepMetrics& step : history.steps) {
      if (!step.skipped) rates.push_back(step.tokens_per_s);
    }
    result.tokens_per_s = median(std::move(rates));
    return result;
  }

  const RunConfig& config_;
  at::Device device_;
  std::optional<double> peak_tflops_;
  Dataset& data_;
  std::filesystem::path folder_;
  const TrainEvents& events_;
  Transformer model_;
  NamedTensors weights_;
  AdamW optimizer_;
  std::optional<Windows> windows_;
  std::optional<Windows> frozen_windows_;
  TrainingStep training_step_;
  CheckpointStore checkpoints_;
  RunState state_;
  std::optional<MetricsWriter> metrics_;
  std::optional<JsonLines> analysis_;
  std::optional<OperandAnalysis> operands_;
  LossWatch loss_watch_;
  SqnrWatch sqnr_watch_;
  std::int64_t saved_step_ = -1;
};

// The result of a run that needs no more steps.
std::optional<TrainResult> finished(const RunConfig& config, const std::filesystem::path& folder, const Warn& warn) {
  auto done = read_result(folder, warn);
  return done && done->step == config.train.steps ? done : std::nullopt;
}

// Of a process that was killed at the very end of its run.
void remove_what_is_left(const std::filesystem::path& folder) {
  if (!io::exists_at(folder / io::kLockName)) return;
  try {
    const io::HeldFolder held(folder);
    io::remove_left_temporaries(folder);
  } catch (const InputError&) {
    return;  // it is ending just now
  }
}

}  // namespace

TrainResult train(RunConfig config, const std::filesystem::path& folder, const TrainEvents& events,
                  const std::atomic<bool>& stop) try {
  const DeviceChoice choice = choose_device(config.train.device, "train.device", config.model, {&config.recipe, 1});
  const at::Device device = choice.device;
  config.train.device = choice.kind();
  if (events.info && !choice.note.empty()) events.info(choice.note);
  if (config.model.vocab_size > 0) check_memory(config, device);
  const std::unique_ptr<Dataset> data = Dataset::open(data_config(config));
  check_vocabulary(config, *data);
  check_memory(config, device);
  std::optional<std::filesystem::path> init_tokenizer;
  if (!config.train.init.empty()) init_tokenizer = io::tokenizer_of(io::find_checkpoint(config.train.init));
  check_tokenizer(init_tokenizer, config.train.init, *data, config.data.train.front());
  const DataIdentity identity = identity_of(*data);
  // Nothing there changes before all is known to be right; once the folder is held no other process changes it.
  check_run_folder(folder, config, identity);
  if (const auto done = finished(config, folder, {})) {
    if (events.info) events.info(folder.string() + " is done already");
    remove_what_is_left(folder);
    return *done;
  }
  const io::HeldFolder held(folder);
  check_run_folder(folder, config, identity);
  if (const auto done = finished(config, folder, events.warning)) return *done;
  io::remove_left_temporaries(folder);
  if (events.folder) events.folder(folder);
  if (events.warning && !held.locked()) {
    events.warning(folder.string() +
                   " is on a file system without locks: see to it that no other process trains there");
  }
  const int threads = config.train.threads > 0 ? static_cast<int>(config.train.threads)
                                               : static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  at::set_num_threads(threads);
  choose_attention(config.train.attention);
  const std::string accelerator = device.is_cpu() ? "" : std::string(find_backend("cuda").device());
  const ProductChoice allowed =
      config.train.gemm == GemmSetting::kEmulated ? ProductChoice::kEmulated : ProductChoice::kFastest;
  const ChosenProducts products = choose_products(config.recipe, device, linear_sides(config.model), allowed);
  const RunFacts facts{choice.name(),
                       accelerator,
                       peak_bf16_tflops(accelerator),
                       products.description,
                       std::string(default_backend().name()),
                       data->entropy_rate(),
                       identity};
  if (events.info) {
    events.info("recipe " + config.recipe.name + ", model " + config.model.name + " with " +
                std::to_string(parameter_count(config.model)) + " parameters on " + facts.device +
                (accelerator.empty() ? "" : " (" + accelerator + ")") + ", GEMM " + facts.gemm + ", backend " +
                facts.backend + ", " + std::to_string(threads) + " threads");
  }
  if (events.info && facts.peak_tflops) {
    events.info("MFU is the share of " + number_text(*facts.peak_tflops) +
                " TFLOP/s, the dense BF16 peak that the maker states for this device");
  }
  if (const auto warning = warning_of_cut_blocks(config); warning && events.warning) events.warning(*warning);
  begin_peak_memory(device);
  Run run(config, device, products, facts.peak_tflops, *data, folder, events);
  const std::optional<std::filesystem::path> tokenizer = find_tokenizer(*data, init_tokenizer);
  if (!tokenizer && data->tokenizer().hash != 0 && events.warning) {
    events.warning("no tokenizer.json beside " + data->tokenizer().file +
                   " is the one that made its tokens: the run carries none, and reads no text later");
  }
  write_run_folder(folder, config, facts);
  if (tokenizer) carry_tokenizer(*tokenizer, folder);
  TrainResult result = run.go(stop);
  if (result.finished) write_result(folder, result);
  return result;
} catch (const c10::Error& error) {
  throw_plain(error, ways_to_less_memory(config, config.train.device == DeviceKind::kCpu ? at::kCPU : at::kCUDA));
} catch (const std::filesystem::filesystem_error& error) {
  io::throw_file_error(error);
}

}  // namespace ufp4
