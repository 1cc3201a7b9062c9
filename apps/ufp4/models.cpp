// ufp4 import and ufp4 export: models of Hugging Face's layout in and out, by the Python package.
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "python_child.h"
#include "ufp4/error.h"
#include "verbs.h"

namespace ufp4::app {
namespace {

struct Import {
  std::string folder, out;
  std::optional<std::string> context;
  std::optional<std::string> python;
};

struct Export {
  std::string run, out;
  std::string dtype = "bf16";
  std::string shard_size = "5GB";
  std::optional<std::string> format;
  std::optional<std::string> python;
};

}  // namespace

void add_import(CLI::App& program) {
  CLI::App* verb =
      program.add_subcommand("import", "Make a checkpoint of a model folder in Hugging Face's layout (needs Python)");
  const auto options = std::make_shared<Import>();
  verb->add_option("HF_FOLDER", options->folder, "Its config.json, safetensors shards and tokenizer")->required();
  verb->add_option("OUT", options->out, "The checkpoint to write, for --init, analyze, generate and evaluate")
      ->required();
  verb->add_option("--context", options->context, "Tokens of a sequence (max_position_embeddings)")->type_name("N");
  add_python_option(*verb, options->python);
  verb->footer(
      "Example:\n"
      "  ufp4 import models/Qwen3-0.6B runs/qwen3 --context 4096\n"
      "  ufp4 train --init runs/qwen3 --data books.bin --out runs/qwen3-books");
  verb->callback([options] {
    std::vector<std::string> arguments{"import"};
    if (options->context) arguments.insert(arguments.end(), {"--context", *options->context});
    arguments.insert(arguments.end(), {"--", options->folder, options->out});
    run_python(options->python, arguments);
  });
}

void add_export(CLI::App& program) {
  CLI::App* verb =
      program.add_subcommand("export", "Write a run's model as a folder that transformers loads (needs Python)");
  const auto options = std::make_shared<Export>();
  verb->add_option("RUN", options->run, "A folder that 'ufp4 train' wrote, or a checkpoint")->required();
  verb->add_option("OUT", options->out, "The folder to make; it must not be there")->required();
  verb->add_option("--dtype", options->dtype, "Type of the weights: bf16 or fp32")->capture_default_str();
  verb->add_option("--shard-size", options->shard_size, "Most bytes of a file, such as 500MB or 5GB")
      ->capture_default_str();
  verb->add_option("--format", options->format,
                   "Weights of the linears packed in 4 bits, in compressed-tensors' layout: nvfp4, mxfp4 or int4");
  add_python_option(*verb, options->python);
  verb->footer(
      "Example:\n"
      "  ufp4 export runs/books books-hf --dtype bf16 --shard-size 2GB");
  verb->callback([options] {
    std::vector<std::string> arguments{"export", "--dtype", options->dtype, "--shard-size", options->shard_size};
    if (options->format) {
      // The program quantizes for the package.
      const std::filesystem::path program_file = std::filesystem::read_symlink("/proc/self/exe");
      arguments.insert(arguments.end(), {"--format", *options->format, "--program", program_file.string()});
    }
    arguments.insert(arguments.end(), {"--", options->run, options->out});
    run_python(options->python, arguments);
  });
}

}  // namespace ufp4::app
