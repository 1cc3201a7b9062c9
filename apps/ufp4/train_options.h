// What the verbs train and compare share: their options.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "config/run_config.h"

namespace ufp4::app {

// Options that stand for settings. The later wins: --config, then the named options, then --set.
struct TrainOptions {
  std::string config, model, device, init, out;
  std::string recipe;          // for a verb that has the option
  bool names_recipes = false;  // of a verb that names recipes by itself
  std::vector<std::string> data, val, set;
  std::string steps;  // as given: the table of settings checks it

  void add_to(CLI::App& verb);
  std::vector<Assignment> assignments() const;
};

}  // namespace ufp4::app
