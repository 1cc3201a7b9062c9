// ufp4 formats: the table of the 4-bit formats, and the theory of a grid given by its levels.
#include <fmt/core.h>
#include <fmt/ranges.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>

#include "format_names.h"
#include "grid_theory.h"
#include "ufp4/error.h"
#include "ufp4/format.h"
#include "verbs.h"
#include "whole_number.h"

namespace ufp4::app {
namespace {

std::span<const float> levels_of(const ElementFormat& element) {
  return std::span(element.levels).first(static_cast<std::size_t>(element.level_count));
}

void print_table() {
  fmt::print("{:<14} {:<13} {:>5}  {:<5}  {:<27} {:<31} {}\n", "format", "element", "block", "scale", "codes", "levels",
             "summary");
  for (const BlockFormat& format : formats()) {
    fmt::print("{:<14} {:<13} {:>5}  {:<5}  {:<27} {:<31} {}\n", format.name, format.element.name, format.block,
               name_of(format.scale), name_of(format.element.code_kind),
               fmt::format("{}", fmt::join(levels_of(format.element), " ")), format.summary);
  }
}

void print_json() {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const BlockFormat& format : formats()) {
    nlohmann::ordered_json values = nlohmann::ordered_json::array();
    for (unsigned code = 0; code < 16; ++code) values.push_back(code_value(format.element, code));
    list.push_back({{"name", format.name},
                    {"element", format.element.name},
                    {"levels", levels_of(format.element)},
                    {"code_kind", name_of(format.element.code_kind)},
                    {"code_values", values},
                    {"block", format.block},
                    {"scale", name_of(format.scale)},
                    {"summary", format.summary}});
  }
  fmt::print("{}\n", list.dump(2));
}

}  // namespace

void add_formats(CLI::App& program) {
  CLI::App* verb = program.add_subcommand("formats", "List the 4-bit formats, or explore a grid given by its levels");
  struct Options {
    bool json = false;
    bool csv = false;
    std::string levels, rank;
    int sweep = 0;
    GridTheory theory;
  };
  const auto options = std::make_shared<Options>();
  verb->add_flag("--json", options->json, "Print JSON for programs");
  CLI::Option* csv = verb->add_flag("--csv", options->csv, "With --levels or --sweep: print comma-separated values");
  CLI::Option* levels =
      verb->add_option("--levels", options->levels,
                       "A grid's positive half from 0, as 0,0.5,1,1.5,2,3,4,6, or a format's name: its theory");
  CLI::Option* sweep =
      verb->add_option("--sweep", options->sweep,
                       "Rank all grids of eight levels out of the whole numbers up to this one, by their error")
          ->check(whole_number(7, kLargestSweep))
          ->excludes(levels);
  CLI::Option* block = verb->add_option("--block", options->theory.block, "Values that share a scale (16)")
                           ->check(whole_number(2, 4096));
  CLI::Option* distributions = verb->add_option("--distributions", options->theory.distributions,
                                                "Of the values in a block (uniform,normal,laplace,student3,student5)")
                                   ->delimiter(',');
  verb->add_option("--top", options->theory.top, "With --sweep: grids to list (10)")
      ->check(whole_number(1, 1000000))
      ->needs(sweep);
  verb->add_option("--rank", options->rank,
                   "With --sweep: by the error 'before' the random Hadamard transform or 'after' "
                   "(before)")
      ->check(CLI::IsMember({"before", "after"}))
      ->needs(sweep);
  verb->footer(
      "Examples:\n"
      "  ufp4 formats --json\n"
      "  ufp4 formats --levels 0,0.5,1,1.5,2,3,4,6 --block 16\n"
      "  ufp4 formats --sweep 14 --rank after --distributions laplace");
  verb->callback([=] {
    for (const CLI::Option* option : {csv, block, distributions}) {
      if (option->count() == 0 || levels->count() > 0 || sweep->count() > 0) continue;
      throw InputError(option->get_name() + " is for the theory of grids: give --levels or --sweep with it");
    }
    options->theory.rank_by = options->rank == "after" ? RankBy::kAfter : RankBy::kBefore;
    options->theory.output = options->json ? Output::kJson : options->csv ? Output::kCsv : Output::kTable;
    if (levels->count() > 0) {
      print_grid(options->levels, options->theory);
    } else if (options->sweep != 0) {
      print_sweep(options->sweep, options->theory);
    } else {
      options->json ? print_json() : print_table();
    }
  });
}

}  // namespace ufp4::app
