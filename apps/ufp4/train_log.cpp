#include "train_log.h"

#include <fmt/core.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cstdio>
#include <utility>

namespace ufp4::app {
namespace {

std::string duration(double seconds) {
  const auto s = static_cast<std::int64_t>(seconds);
  if (s >= 3600) return fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
  return fmt::format("{}:{:02}", s / 60, s % 60);
}

}  // namespace

TrainLog::TrainLog()
    : logger_(std::make_shared<spdlog::logger>("ufp4", std::make_shared<spdlog::sinks::stderr_color_sink_mt>())),
      terminal_(::isatty(STDERR_FILENO) == 1) {
  logger_->set_pattern("%H:%M:%S %^%l%$ %v");
}

TrainLog::~TrainLog() { clear_line(); }

void TrainLog::start(const RunConfig& config, const std::string& label) {
  label_ = label.empty() ? "" : label + ": ";
  steps_ = config.train.steps;
  log_every_ = config.train.log_every;
  first_step_ = 0;
}

void TrainLog::info(const std::string& message) {
  clear_line();
  logger_->info("{}{}", label_, message);
}

TrainEvents TrainLog::events() {
  return {.info = [this](const std::string& message) { info(message); },
          .warning =
              [this](const std::string& message) {
                clear_line();
                logger_->warn("{}{}", label_, message);
              },
          .step = [this](const StepMetrics& metrics) { step(metrics); },
          .validation = [this](const Validation& v) { info(fmt::format("step {} val_loss {:.4f}", v.step, v.loss)); }};
}

void TrainLog::step(const StepMetrics& m) {
  if (first_step_ == 0) {
    first_step_ = m.step;
    begin_ = Clock::now();
  }
  requantized_ += m.requantized;
  // The rate counts validation and checkpoints too, from the end of the first step of this start on.
  const double elapsed = std::chrono::duration<double>(Clock::now() - begin_).count();
  const auto done = static_cast<double>(m.step - first_step_);
  const std::string left =
      done > 0 ? duration(elapsed / done * static_cast<double>(steps_ - m.step)) + " left" : std::string();
  if (m.step == first_step_ || m.step % log_every_ == 0 || m.step == steps_) {
    clear_line();
    logger_->info(
        "{}step {}/{} loss {:.4f} grad_norm {:.3f} lr {:.2e} {:.0f} tokens/s {:.3f} TFLOP/s{} {:.2f} GiB{} {}", label_,
        m.step, steps_, m.loss, m.grad_norm, m.lr, m.tokens_per_s, m.tflops,
        m.mfu > 0 ? fmt::format(" (MFU {:.3f})", m.mfu) : "",
        static_cast<double>(m.memory_bytes) / (1024.0 * 1024.0 * 1024.0),
        requantized_ > 0 ? fmt::format(" {} operands requantized", requantized_) : "", left);
    requantized_ = 0;
  }
  if (terminal_ && m.step < steps_) {
    fmt::print(stderr, "\r\x1b[K{}{}/{} loss {:.4f} {:.0f} tokens/s {}", label_, m.step, steps_, m.loss, m.tokens_per_s,
               left);
    std::fflush(stderr);
    line_open_ = true;
  }
}

void TrainLog::clear_line() {
  if (line_open_) fmt::print(stderr, "\r\x1b[K");
  line_open_ = false;
}

}  // namespace ufp4::app
