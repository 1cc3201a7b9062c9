// What generate and evaluate share: which model, under which recipe, where.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>

#include "train/text_model.h"

namespace ufp4::app {

struct TextOptions {
  std::string run;
  std::string recipe = "trained";
  std::string device = "auto";
  unsigned threads = 0;
  std::optional<std::string> python;

  void add_to(CLI::App& verb);
  TextModelSettings settings() const;
};

}  // namespace ufp4::app
