#include "ufp4/recipe.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "numerics/near_name.h"
#include "ufp4/error.h"
#include "ufp4/format.h"

namespace ufp4 {
namespace {

int parse_int(std::string_view key, std::string_view value) {
  int number = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  if (error != std::errc() || end != value.data() + value.size()) {
    throw InputError("recipe key '" + std::string(key) + "': '" + std::string(value) + "' is not a whole number");
  }
  return number;
}

// The parts of `text` between the separators, empty ones included.
std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (std::size_t end = text.find(separator); end != std::string_view::npos; end = text.find(separator)) {
    parts.push_back(text.substr(0, end));
    text.remove_prefix(end + 1);
  }
  parts.push_back(text);
  return parts;
}

std::vector<std::string> parse_patterns(std::string_view value) {
  std::vector<std::string> patterns;
  for (std::string_view part : split(value, ',')) {
    while (!part.empty() && part.front() == ' ') part.remove_prefix(1);
    while (!part.empty() && part.back() == ' ') part.remove_suffix(1);
    if (!part.empty()) patterns.emplace_back(part);
  }
  return patterns;
}

// '*' matches any run of characters, '?' any one. After a mismatch the last star takes one character more: earlier ones
// need not be tried again, so the time is at most the product of the lengths.
bool glob_matches(std::string_view pattern, std::string_view text) {
  std::size_t p = 0;
  std::size_t t = 0;
  std::size_t star = std::string_view::npos;
  std::size_t after_star = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      after_star = t;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == text[t])) {
      ++p;
      ++t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++after_star;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == std::string_view::npos;
}

std::vector<std::string> all_keys() {
  std::vector<std::string> keys;
  for (const auto& [key, value] : entries(Recipe{})) keys.push_back(key);
  keys.insert(keys.end(), {"*.hadamard", "*.*.format", "*.*.block", "*.*.rounding", "*.*.outer", "*.*.tau", "*.*.amax",
                           "*.dy.rounding", "*.x.rounding", "*.w.rounding"});
  return keys;
}

[[noreturn]] void throw_unknown_key(std::string_view key) {
  const std::vector<std::string> keys = all_keys();
  const std::vector<std::string_view> views(keys.begin(), keys.end());
  throw InputError("unknown recipe key '" + std::string(key) + "'" + name_hint(key, views));
}

constexpr std::array<std::string_view, 6> kOperandFields{"format", "block", "rounding", "outer", "tau", "amax"};

// Values of tau and how a recipe spells them.
constexpr std::array<std::pair<std::string_view, float>, 3> kTaus{{{"auto", 0.0F}, {"1", 1.0F}, {"9/8", 1.125F}}};

float parse_tau(std::string_view key, std::string_view value) {
  for (const auto& [name, tau] : kTaus) {
    if (name == value) return tau;
  }
  throw InputError("recipe key '" + std::string(key) + "': tau '" + std::string(value) +
                   "' is none of 'auto', '1', '9/8'");
}

std::string_view tau_name(float tau) {
  return std::find_if(kTaus.begin(), kTaus.end(), [&](const auto& known) { return known.second == tau; })->first;
}

void set_operand(OperandSpec& operand, std::string_view key, std::string_view field, std::string_view value) {
  if (field == "format") {
    operand.format = value == "bf16" ? nullptr : &find_format(value);
  } else if (field == "block") {
    operand.block = parse_int(key, value);
  } else if (field == "outer") {
    operand.outer.each = find_outer_scale(value);
  } else if (field == "tau") {
    operand.options.tau = parse_tau(key, value);
  } else if (field == "amax") {
    if (value != "exact" && value != "delayed") {
      throw InputError("recipe key '" + std::string(key) + "': amax '" + std::string(value) +
                       "' is neither 'exact' nor 'delayed'");
    }
    operand.outer.amax = value == "exact" ? AmaxSource::kExact : AmaxSource::kDelayed;
  } else if (value == "rtne") {
    operand.rounding = Rounding::kNearest;
  } else if (value == "sr") {
    operand.rounding = Rounding::kStochastic;
  } else {
    throw InputError("recipe key '" + std::string(key) + "': rounding '" + std::string(value) +
                     "' is neither 'rtne' nor 'sr'");
  }
}

}  // namespace

bool Recipe::quantized() const {
  return std::any_of(gemm.begin(), gemm.end(), [](const GemmRecipe& g) { return g.quantized(); });
}

bool Recipe::keeps_bf16(std::string_view layer) const {
  return std::any_of(keep_bf16.begin(), keep_bf16.end(),
                     [&](const std::string& pattern) { return glob_matches(pattern, layer); });
}

void set(Recipe& recipe, std::string_view key, std::string_view value) {
  if (key == "name") {
    recipe.name = value;
    return;
  }
  if (key == "summary") {
    recipe.summary = value;
    return;
  }
  if (key == "keep_bf16") {
    recipe.keep_bf16 = parse_patterns(value);
    return;
  }
  const std::vector<std::string_view> parts = split(key, '.');
  bool matched = false;
  for (GemmRecipe& gemm : recipe.gemm) {
    if (parts.size() < 2 || (parts[0] != "*" && parts[0] != gemm.name)) continue;
    if (parts.size() == 2 && parts[1] == "hadamard") {
      for (OperandSpec& operand : gemm.operand) operand.hadamard.size = parse_int(key, value);
      matched = true;
    }
    if (parts.size() != 3) continue;
    if (std::find(kOperandFields.begin(), kOperandFields.end(), parts[2]) == kOperandFields.end()) continue;
    for (std::size_t i = 0; i < 2; ++i) {
      if (parts[1] != "*" && parts[1] != gemm.operands[i]) continue;
      set_operand(gemm.operand[i], key, parts[2], value);
      matched = true;
    }
  }
  if (!matched) throw_unknown_key(key);
}

void validate(const Recipe& recipe) {
  for (const GemmRecipe& gemm : recipe.gemm) {
    const std::string where = "recipe '" + recipe.name + "', " + std::string(gemm.name);
    for (std::size_t i = 0; i < 2; ++i) {
      OperandSpec operand = gemm.operand[i];
      operand.hadamard = {};  // of both operands, below
      try {
        if (operand.quantized()) validate(operand);
        if (!operand.quantized() && operand.outer.amax == AmaxSource::kDelayed) {
          throw InputError("amax = 'delayed' is for int4_p2 with outer = 'tensor'; for others set amax = 'exact' too");
        }
      } catch (const InputError& error) {
        throw InputError(where + "." + std::string(gemm.operands[i]) + ": " + error.what());
      }
    }
    if (gemm.hadamard() == 0) continue;
    if (std::find(kBlockSizes.begin(), kBlockSizes.end(), gemm.hadamard()) == kBlockSizes.end()) {
      throw InputError(where + ".hadamard: " + std::to_string(gemm.hadamard()) + " is not one of 0, 16, 32, 64, 128");
    }
    for (std::size_t i = 0; i < 2; ++i) {
      if (gemm.quantized() && !gemm.operand[i].quantized()) {
        throw InputError(where + ": a Hadamard transform needs both operands quantized, but " +
                         std::string(gemm.operands[i]) + " is bf16");
      }
    }
  }
}

std::vector<std::pair<std::string, std::string>> entries(const Recipe& recipe) {
  std::string patterns;
  for (const std::string& pattern : recipe.keep_bf16) patterns += (patterns.empty() ? "" : ",") + pattern;
  std::vector<std::pair<std::string, std::string>> list{
      {"name", recipe.name}, {"summary", recipe.summary}, {"keep_bf16", patterns}};
  for (const GemmRecipe& gemm : recipe.gemm) {
    const std::string prefix(gemm.name);
    list.emplace_back(prefix + ".hadamard", std::to_string(gemm.hadamard()));
    for (std::size_t i = 0; i < 2; ++i) {
      const OperandSpec& operand = gemm.operand[i];
      const std::string name = prefix + "." + std::string(gemm.operands[i]);
      list.emplace_back(name + ".format", operand.format == nullptr ? "bf16" : std::string(operand.format->name));
      list.emplace_back(name + ".block", std::to_string(operand.block));
      list.emplace_back(name + ".rounding", name_of(operand.rounding));
      list.emplace_back(name + ".outer", name_of(operand.outer.each));
      list.emplace_back(name + ".tau", tau_name(operand.options.tau));
      list.emplace_back(name + ".amax", operand.outer.amax == AmaxSource::kExact ? "exact" : "delayed");
    }
  }
  return list;
}

}  // namespace ufp4
