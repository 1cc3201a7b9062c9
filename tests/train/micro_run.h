// The smallest run that has all parts: two layers, sequences of 32 tokens of the built-in language.
#pragma once

#include <atomic>
#include <string>
#include <vector>

#include "config/run_config.h"

namespace ufp4 {

inline std::vector<Assignment> micro_settings(const std::string& recipe,
                                              std::initializer_list<const char*> overrides = {}) {
  std::vector<Assignment> list;
  for (const char* text : {"model.name=micro", "model.d_model=32", "model.layers=2", "model.heads=2", "model.ffn=64",
                           "model.context=32", "train.steps=8", "train.batch=4", "train.device=cpu", "train.threads=2",
                           "train.eval_every=4", "train.checkpoint_every=4", "data.val_tokens=256"}) {
    list.push_back(parse_override(text, "micro"));
  }
  list.push_back({"recipe.base", {recipe}, "micro"});
  for (const char* text : overrides) list.push_back(parse_override(text, "test"));
  return list;
}

inline RunConfig micro_run(const std::string& recipe, std::initializer_list<const char*> overrides = {}) {
  return make_run_config(micro_settings(recipe, overrides));
}

inline const std::atomic<bool>& never() {
  static const std::atomic<bool> flag{false};
  return flag;
}

}  // namespace ufp4
