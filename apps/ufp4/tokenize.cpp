// ufp4 tokenize: token shards out of text, by the Python package.
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "python_child.h"
#include "verbs.h"

namespace ufp4::app {
namespace {

struct Options {
  std::vector<std::string> files;
  std::string out;
  std::optional<std::string> tokenizer, train_bpe, train_bytes, text_key, shard_tokens, threads;
  std::optional<std::string> python;
};

void run(const Options& options) {
  std::vector<std::string> arguments{"tokenize", "--out", options.out};
  const std::vector<std::pair<const char*, const std::optional<std::string>*>> given{
      {"--tokenizer", &options.tokenizer},       {"--train-bpe", &options.train_bpe},
      {"--train-bytes", &options.train_bytes},   {"--text-key", &options.text_key},
      {"--shard-tokens", &options.shard_tokens}, {"--threads", &options.threads}};
  for (const auto& [name, value] : given) {
    if (*value) arguments.insert(arguments.end(), {name, **value});
  }
  arguments.emplace_back("--");
  arguments.insert(arguments.end(), options.files.begin(), options.files.end());
  run_python(options.python, arguments);
}

}  // namespace

void add_tokenize(CLI::App& program) {
  CLI::App* verb = program.add_subcommand("tokenize", "Make token shards from texts with a tokenizer (needs Python)");
  const auto options = std::make_shared<Options>();
  verb->add_option("FILE", options->files, "Texts: .txt, .jsonl, .parquet; text also as .gz and .zst")->required();
  verb->add_option("--out", options->out, "The folder of the shards; one that was interrupted continues")
      ->required()
      ->type_name("DIR");
  verb->add_option("--tokenizer", options->tokenizer, "A tokenizer.json, or a folder with one")->type_name("FILE|DIR");
  verb->add_option("--train-bpe", options->train_bpe, "Trains a byte-level BPE of so many tokens on the texts")
      ->type_name("VOCAB");
  verb->add_option("--train-bytes", options->train_bytes, "Characters it is trained on at most (2^30)")->type_name("N");
  verb->add_option("--text-key", options->text_key, "Key or column of the text (text)")->type_name("NAME");
  verb->add_option("--shard-tokens", options->shard_tokens, "Tokens of a shard (2^28)")->type_name("N");
  verb->add_option("--threads", options->threads, "Threads (all cores)")->type_name("N");
  add_python_option(*verb, options->python);
  verb->footer(
      "Example:\n"
      "  ufp4 tokenize books.jsonl.zst --train-bpe 32768 --out books-tokens\n"
      "  ufp4 train --model 60m --data books-tokens/*.bin --out runs/books");
  verb->callback([options] { run(*options); });
}

}  // namespace ufp4::app
