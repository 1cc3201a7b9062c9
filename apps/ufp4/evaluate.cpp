// ufp4 evaluate: how well a model predicts texts, document by document.
#include <fmt/core.h>

#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>
#include <numbers>
#include <optional>
#include <string>
#include <vector>

#include "data/documents.h"
#include "io/safetensors.h"
#include "io/tokenizer_file.h"
#include "text_codec.h"
#include "text_options.h"
#include "ufp4/error.h"
#include "verbs.h"
#include "whole_number.h"

namespace ufp4::app {
namespace {

using Json = nlohmann::ordered_json;

struct Options : TextOptions {
  std::vector<std::string> data;
  std::optional<std::int64_t> stride;
  std::optional<std::string> logits;
  bool documents = false;
  bool json = false;
};

struct Document {
  std::string file;
  std::int64_t number = 0;           // in its file, from 0
  std::vector<std::int32_t> tokens;  // the separator first
  std::optional<std::int64_t> bytes;
};

struct Sums {
  double nats = 0;
  std::int64_t tokens = 0;
  std::int64_t bytes = 0;
  bool all_bytes = true;

  void add(double more_nats, std::int64_t more_tokens, const std::optional<std::int64_t>& more_bytes) {
    nats += more_nats;
    tokens += more_tokens;
    bytes += more_bytes.value_or(0);
    all_bytes = all_bytes && more_bytes.has_value();
  }
  double loss() const { return nats / static_cast<double>(tokens); }
  std::optional<double> bits_a_byte() const {
    if (!all_bytes || bytes == 0) return std::nullopt;
    return nats / std::numbers::ln2 / static_cast<double>(bytes);
  }
};

Json json_of(const Sums& sums) {
  const std::optional<double> bits = sums.bits_a_byte();
  return {{"tokens", sums.tokens},
          {"bytes", sums.all_bytes ? Json(sums.bytes) : Json()},
          {"loss", sums.loss()},
          {"perplexity", std::exp(sums.loss())},
          {"bits_per_byte", bits ? Json(*bits) : Json()}};
}

std::string line_of(const std::string& name, const Sums& sums) {
  const std::optional<double> bits = sums.bits_a_byte();
  return fmt::format("{:<40} {:>10} {:>9.4f} {:>12.4f} {:>9}\n", name, sums.tokens, sums.loss(), std::exp(sums.loss()),
                     bits ? fmt::format("{:.4f}", *bits) : "");
}

// Calls `sink` with every document of the files as the model reads it.
void read_documents(const Options& options, const TextModel& model, const std::function<void(Document)>& sink) {
  std::unique_ptr<TextCodec> codec;
  for (const std::string& file : options.data) {
    std::int64_t number = 0;
    const auto text = [&](std::string_view document) {
      if (codec == nullptr) codec = make_codec(model, options.python);
      std::vector<std::int32_t> tokens = codec->encode(document);
      tokens.insert(tokens.begin(), codec->separator());
      sink({file, number++, std::move(tokens), static_cast<std::int64_t>(document.size())});
    };
    const auto tokens = [&](std::vector<std::int32_t> found) {
      sink({file, number++, std::move(found), std::nullopt});
    };
    const auto check = [&](std::uint64_t hash) {
      const auto tokenizer = model.tokenizer();
      if (hash == 0 || !tokenizer || io::tokenizer_hash(*tokenizer) == hash) return;
      throw InputError("'" + file + "': its tokens are of another tokenizer than '" + tokenizer->string() + "'");
    };
    const DataSettings& settings = model.config().data;
    data::read_documents(file, {settings.format, settings.vocab_size, settings.separator}, text, tokens, check);
  }
}

// One tensor a document, [tokens, vocabulary], and its tokens.
void write_logits(const std::string& file, const TextModel& model, const std::vector<Document>& documents) {
  const std::int64_t vocabulary = model.config().model.vocab_size;
  std::vector<io::TensorSpec> specs;
  for (std::size_t i = 0; i < documents.size(); ++i) {
    const auto length = static_cast<std::int64_t>(documents[i].tokens.size());
    specs.push_back({fmt::format("document.{}.logits", i), io::TensorType::kF32, {length, vocabulary}});
    specs.push_back({fmt::format("document.{}.tokens", i), io::TensorType::kI32, {length}});
  }
  io::SafetensorsWriter writer(file, std::move(specs));
  for (std::size_t i = 0; i < documents.size(); ++i) {
    const std::vector<float> logits = model.logits(documents[i].tokens);
    writer.write(2 * i, std::as_bytes(std::span(logits)));
    writer.write(2 * i + 1, std::as_bytes(std::span(documents[i].tokens)));
  }
  writer.commit();
}

void run(const Options& options) {
  const TextModel model(options.settings());
  const std::int64_t stride = options.stride.value_or(model.config().model.context);
  Sums all;
  Json list = Json::array();
  std::vector<Document> kept;
  if (!options.json) {
    fmt::print("'{}' at step {}, recipe {}, context {}, stride {}\n", options.run, model.step(), model.recipe().name,
               model.config().model.context, stride);
    fmt::print("{:<40} {:>10} {:>9} {:>12} {:>9}\n", "", "tokens", "loss", "perplexity", "bits/byte");
  }
  read_documents(options, model, [&](Document document) {
    const std::vector<float> losses = model.losses(document.tokens, stride);
    double nats = 0;
    for (const float loss : losses) nats += loss;
    Sums own;
    own.add(nats, static_cast<std::int64_t>(losses.size()), document.bytes);
    all.add(nats, static_cast<std::int64_t>(losses.size()), document.bytes);
    if (options.json) {
      Json json{{"file", document.file}, {"document", document.number}};
      json.update(json_of(own));
      list.push_back(std::move(json));
    } else if (options.documents) {
      fmt::print("{}", line_of(fmt::format("{} #{}", document.file, document.number), own));
    }
    if (options.logits) kept.push_back(std::move(document));
  });
  if (options.logits) write_logits(*options.logits, model, kept);
  if (options.json) {
    Json json{{"run", options.run},
              {"step", model.step()},
              {"recipe", model.recipe().name},
              {"context", model.config().model.context},
              {"stride", stride}};
    json.update(json_of(all));
    json["documents"] = std::move(list);
    fmt::print("{}\n", json.dump(1, ' ', false, nlohmann::json::error_handler_t::replace));
  } else {
    fmt::print("{}", line_of("all", all));
  }
}

}  // namespace

void add_evaluate(CLI::App& program) {
  CLI::App* verb = program.add_subcommand("evaluate", "Measure how well a model predicts texts: loss, bits a byte");
  const auto options = std::make_shared<Options>();
  options->add_to(*verb);
  verb->add_option("--data", options->data, "Texts (.txt, .jsonl, .jsonl.zst) or token shards (.bin)")
      ->required()
      ->type_name("FILE...");
  verb->add_option("--stride", options->stride,
                   "Tokens from window to window of a long document (the context); fewer see more before them")
      ->check(whole_number(1, 1 << 24));
  verb->add_flag("--documents", options->documents, "Prints a line for each document");
  verb->add_option("--logits", options->logits, "Writes the logits of every document, each at most a context long")
      ->type_name("FILE.safetensors");
  verb->add_flag("--json", options->json, "Prints the figures as JSON, document by document");
  verb->footer(
      "Example:\n"
      "  ufp4 evaluate runs/books --data held-out.jsonl --documents");
  verb->callback([options] { run(*options); });
}

}  // namespace ufp4::app
