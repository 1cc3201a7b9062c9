// The table of the settings that are neither the model's nor the recipe's: one row a key serves parsing, checking,
// writing, comparing and documenting.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "train/run_config.h"

namespace ufp4 {

// Where a key's value lies in a RunConfig.
using Slot = std::variant<std::int64_t*, double*, std::string*, std::vector<std::string>*>;

struct ConfigKey {
  std::string_view name;
  Slot (*slot)(RunConfig&);
  double min = 0;  // of numbers
  double max = 0;
  std::vector<std::string_view> choices;  // of text; empty: any
  bool may_change = false;                // whether a run may go on with another value
  std::string_view meaning;
};

std::span<const ConfigKey> config_keys();

// Null if there is none.
const ConfigKey* find_key(std::string_view name);

// Throws InputError that names `assignment.where`, the key, the value and what was expected.
void assign(RunConfig& config, const ConfigKey& key, const Assignment& assignment);

// The value as text; a list has one item an element.
std::vector<std::string> value_of(const RunConfig& config, const ConfigKey& key);

// "whole number, 1 to 1000000".
std::string expectation(const ConfigKey& key);

}  // namespace ufp4
