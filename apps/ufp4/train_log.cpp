#include "train_log.h"

#include <fmt/core.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cstdio>
#include <exception>
#include <mutex>
#include <optional>
#include <string_view>
#include <utility>

#include "io/append_file.h"
#include "say.h"

namespace ufp4::app {
namespace {

// Lines at the end of a file. A log that cannot be written ends no run.
class FileSink : public spdlog::sinks::base_sink<std::mutex> {
 public:
  explicit FileSink(const std::filesystem::path& path) {
    try {
      file_.emplace(path);
    } catch (const std::exception&) {
      file_.reset();
    }
  }

 private:
  void sink_it_(const spdlog::details::log_msg& message) override {
    if (!file_) return;
    spdlog::memory_buf_t text;
    formatter_->format(message, text);
    try {
      file_->write(std::string_view(text.data(), text.size()));
    } catch (const std::exception&) {
      file_.reset();
    }
  }
  void flush_() override {}

  std::optional<io::AppendFile> file_;
};

std::shared_ptr<spdlog::logger> logger_to(spdlog::sink_ptr sink, const char* pattern) {
  auto logger = std::make_shared<spdlog::logger>("ufp4", std::move(sink));
  logger->set_pattern(pattern);
  return logger;
}

}  // namespace

std::string duration(double seconds) {
  const auto s = static_cast<std::int64_t>(seconds);
  if (s >= 3600) return fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
  return fmt::format("{}:{:02}", s / 60, s % 60);
}

TrainLog::TrainLog()
    : logger_(logger_to(std::make_shared<spdlog::sinks::stderr_color_sink_mt>(), "%H:%M:%S %^%l%$ %v")),
      terminal_(::isatty(STDERR_FILENO) == 1) {}

TrainLog::~TrainLog() { clear_line(); }

void TrainLog::start(const RunConfig& config, const std::string& label) {
  label_ = label.empty() ? "" : label + ": ";
  steps_ = config.train.steps;
  log_every_ = config.train.log_every;
  first_step_ = 0;
  folder_.clear();
  if (in_file_) logger_.reset();
}

void TrainLog::line(Level level, const std::string& message) {
  constexpr spdlog::level::level_enum kLevels[]{spdlog::level::info, spdlog::level::warn, spdlog::level::err};
  clear_line();
  if (logger_) logger_->log(kLevels[static_cast<std::size_t>(level)], "{}{}", label_, message);
  if (in_file_ && logger_) return;
  if (!in_file_ && std::ferror(stderr) == 0) return;
  in_file_ = true;
  terminal_ = false;
  logger_.reset();
  waiting_.emplace_back(level, message);
  go_on_in_file();
}

void TrainLog::go_on_in_file() {
  if (!in_file_ || folder_.empty()) return;
  logger_ = logger_to(std::make_shared<FileSink>(folder_ / "train.log"), "%Y-%m-%d %H:%M:%S %l %v");
  for (const auto& [level, message] : std::exchange(waiting_, {})) line(level, message);
}

void TrainLog::info(const std::string& message) { line(Level::kInfo, message); }

void TrainLog::error_in_file(const std::string& message) {
  if (in_file_) line(Level::kError, message);
}

TrainEvents TrainLog::events() {
  return {.folder =
              [this](const std::filesystem::path& folder) {
                folder_ = folder;
                go_on_in_file();
              },
          .info = [this](const std::string& message) { info(message); },
          .warning = [this](const std::string& message) { line(Level::kWarning, message); },
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
    info(fmt::format(
        "step {}/{} loss {:.4f} grad_norm {:.3f} lr {:.2e} {:.0f} tokens/s {:.3f} TFLOP/s{} {:.2f} GiB{} {}", m.step,
        steps_, m.loss, m.grad_norm, m.lr, m.tokens_per_s, m.tflops,
        m.mfu > 0 ? fmt::format(" (MFU {:.3f})", m.mfu) : "",
        static_cast<double>(m.memory_bytes) / (1024.0 * 1024.0 * 1024.0),
        requantized_ > 0 ? fmt::format(" {} operands requantized", requantized_) : "", left));
    requantized_ = 0;
  }
  if (terminal_ && m.step < steps_) {
    say(fmt::format("\r\x1b[K{}{}/{} loss {:.4f} {:.0f} tokens/s {}", label_, m.step, steps_, m.loss, m.tokens_per_s,
                    left));
    line_open_ = true;
  }
}

void TrainLog::clear_line() {
  if (line_open_) say("\r\x1b[K");
  line_open_ = false;
}

}  // namespace ufp4::app
