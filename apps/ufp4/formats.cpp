// ufp4 formats: the table of the 4-bit formats.
#include <fmt/core.h>
#include <fmt/ranges.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>

#include "format_names.h"
#include "ufp4/format.h"
#include "verbs.h"

namespace ufp4::app {
namespace {

std::span<const float> levels_of(const ElementFormat& element) {
  return std::span(element.levels).first(static_cast<std::size_t>(element.level_count));
}

void print_table() {
  fmt::print("{:<10} {:<10} {:>5}  {:<5}  {:<27} {:<22} {}\n", "format", "element", "block", "scale", "codes", "levels",
             "summary");
  for (const BlockFormat& format : formats()) {
    fmt::print("{:<10} {:<10} {:>5}  {:<5}  {:<27} {:<22} {}\n", format.name, format.element.name, format.block,
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
  CLI::App* verb = program.add_subcommand("formats", "List the 4-bit formats: levels, codes, block and scale");
  const auto json = std::make_shared<bool>(false);
  verb->add_flag("--json", *json, "Print JSON for programs");
  verb->footer("Example:\n  ufp4 formats --json");
  verb->callback([json] { *json ? print_json() : print_table(); });
}

}  // namespace ufp4::app
