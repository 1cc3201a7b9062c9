// ufp4 generate: a model goes on with a text.
#include <fmt/core.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "text_codec.h"
#include "text_options.h"
#include "train_signals.h"
#include "ufp4/error.h"
#include "verbs.h"
#include "whole_number.h"

namespace ufp4::app {
namespace {

struct Options : TextOptions {
  std::string prompt;
  std::vector<std::string> stops;
  double temperature = 1;
  double top_p = 1;
  std::uint64_t seed = 0;
  std::int64_t max_tokens = 128;
  bool ignore_end = false;
  bool json = false;
};

// Text that is given out as soon as no stop can begin in it.
class StopFilter {
 public:
  explicit StopFilter(std::vector<std::string> stops) : stops_(std::move(stops)) {
    for (const std::string& stop : stops_) {
      if (stop.empty()) throw InputError("--stop is empty, expected a text that ends the output");
    }
  }

  // What may be given out now; found() afterwards says whether a stop came.
  std::string add(const std::string& piece) {
    held_ += piece;
    std::size_t end = std::string::npos;
    for (const std::string& stop : stops_) end = std::min(end, held_.find(stop));
    if (end != std::string::npos) {
      found_ = true;
      held_.resize(end);
      return std::exchange(held_, {});
    }
    std::size_t keep = 0;
    for (const std::string& stop : stops_) {
      for (std::size_t length = std::min(stop.size() - 1, held_.size()); length > keep; --length) {
        if (held_.ends_with(std::string_view(stop).substr(0, length))) keep = length;
      }
    }
    std::string out = held_.substr(0, held_.size() - keep);
    held_.erase(0, out.size());
    return out;
  }
  bool found() const { return found_; }
  std::string rest() { return std::exchange(held_, {}); }

 private:
  std::vector<std::string> stops_;
  std::string held_;
  bool found_ = false;
};

void run(const Options& options) {
  StopFilter filter(options.stops);
  const TextModel model(options.settings());
  const std::unique_ptr<TextCodec> codec = make_codec(model, options.python);
  std::vector<std::int32_t> prompt = codec->encode(options.prompt);
  const auto prompt_tokens = static_cast<std::int64_t>(prompt.size());
  prompt.insert(prompt.begin(), codec->separator());

  std::string text;
  std::int64_t tokens = 0;
  std::string end = "length";
  const auto give = [&](const std::string& piece) {
    text += piece;
    if (options.json) return;
    fmt::print("{}", piece);
    std::fflush(stdout);
  };
  const std::atomic<bool>& interrupted = stopped_by_signal();
  if (!options.json) give(options.prompt);
  text.clear();
  model.generate(prompt, {options.temperature, options.top_p, options.seed, options.max_tokens},
                 [&](std::int32_t token) {
                   ++tokens;
                   if (token == codec->separator() && !options.ignore_end) {
                     end = "end";
                     return false;
                   }
                   give(filter.add(codec->next(token)));
                   if (filter.found()) end = "stop";
                   if (interrupted) end = "interrupted";
                   return !filter.found() && !interrupted;
                 });
  give(filter.rest());
  if (options.json) {
    const nlohmann::ordered_json json{{"prompt", options.prompt}, {"text", text}, {"prompt_tokens", prompt_tokens},
                                      {"tokens", tokens},         {"end", end},   {"recipe", model.recipe().name},
                                      {"step", model.step()}};
    fmt::print("{}\n", json.dump(1, ' ', false, nlohmann::json::error_handler_t::replace));
  } else {
    fmt::print("\n");
  }
}

}  // namespace

void add_generate(CLI::App& program) {
  CLI::App* verb = program.add_subcommand("generate", "Let a model go on with a text, token by token");
  const auto options = std::make_shared<Options>();
  options->add_to(*verb);
  verb->add_option("--prompt", options->prompt, "The text that it goes on with; empty: a new document")->required();
  verb->add_option("--max-tokens", options->max_tokens, "Most tokens; the model's context ends the text too")
      ->check(whole_number(1, 1 << 24))
      ->capture_default_str();
  verb->add_option("--temperature", options->temperature, "Divides the logits; 0: always the most probable token")
      ->check(CLI::Range(0.0, 100.0))
      ->capture_default_str();
  verb->add_option("--top-p", options->top_p, "Only the most probable tokens that have this probability together")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  verb->add_option("--seed", options->seed, "Of the draws: the same seed gives the same text")->capture_default_str();
  verb->add_option("--stop", options->stops, "A text that ends the output, and is left out; may be repeated")
      ->type_name("TEXT")
      ->allow_extra_args(false);
  verb->add_flag("--ignore-end", options->ignore_end, "Goes on behind the token that ends a document");
  verb->add_flag("--json", options->json, "Prints the text with its facts as JSON, at the end");
  verb->footer(
      "Example:\n"
      "  ufp4 generate runs/books --prompt 'It was' --temperature 0.8 --top-p 0.95 --seed 1");
  verb->callback([options] { run(*options); });
}

}  // namespace ufp4::app
