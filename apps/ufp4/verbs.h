// The verbs of the program, one a file. Each adds its subcommand to the program; the subcommand's callback does the
// work, prints to stdout, and throws ufp4::InputError (exit code 2) or ufp4::RunError (1).
#pragma once

#include <CLI/CLI.hpp>

namespace ufp4::app {

void add_quantize(CLI::App& program);
void add_formats(CLI::App& program);
void add_analyze(CLI::App& program);
void add_info(CLI::App& program);
void add_bench(CLI::App& program);
void add_report(CLI::App& program);
void add_import(CLI::App& program);
void add_tokenize(CLI::App& program);
void add_export(CLI::App& program);
// Only in a build with UFP4_TORCH.
void add_train(CLI::App& program);
void add_compare(CLI::App& program);
void add_plan(CLI::App& program);
void add_generate(CLI::App& program);
void add_evaluate(CLI::App& program);

}  // namespace ufp4::app
