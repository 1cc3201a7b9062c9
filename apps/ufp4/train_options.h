// What the verbs train and compare share: their options, the log of a run, and how a signal ends it.
#pragma once

#include <CLI/CLI.hpp>
#include <atomic>
#include <string>
#include <vector>

#include "config/run_config.h"

namespace ufp4::app {

// Options that stand for settings. The later wins: --config, then the named options, then --set.
struct TrainOptions {
  std::string config, model, device, out;
  std::string recipe;          // for a verb that has the option
  bool names_recipes = false;  // of a verb that names recipes by itself
  std::vector<std::string> data, val, set;
  std::string steps;  // as given: the table of settings checks it

  void add_to(CLI::App& verb);
  std::vector<Assignment> assignments() const;
};

// From here on SIGINT and SIGTERM set this flag; another one more than a second later ends the program as usual.
const std::atomic<bool>& stop_on_signal();

}  // namespace ufp4::app
