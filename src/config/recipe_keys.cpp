#include "config/recipe_keys.h"

#include <algorithm>
#include <array>
#include <span>

#include "numerics/near_name.h"
#include "ufp4/error.h"
#include "ufp4/format.h"

namespace ufp4 {

template <>
struct Names<Rounding> {
  static constexpr std::array<std::string_view, 2> list{name_of(Rounding::kNearest), name_of(Rounding::kStochastic)};
};

template <>
struct Names<OuterScale> {
  static constexpr std::array<std::string_view, kOuterScales.size() + 1> list = [] {
    std::array<std::string_view, kOuterScales.size() + 1> names;
    for (std::size_t i = 0; i < kOuterScales.size(); ++i) names[i] = name_of(kOuterScales[i]);
    names.back() = name_of(OuterScale::kOwn);
    return names;
  }();
};

template <>
struct Names<AmaxSource> {
  static constexpr std::array<std::string_view, 2> list{"exact", "delayed"};
};

namespace {

constexpr std::string_view kBf16 = "bf16";

std::vector<std::string_view> parts_of(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (std::size_t end = text.find(separator); end != std::string_view::npos; end = text.find(separator)) {
    parts.push_back(text.substr(0, end));
    text.remove_prefix(end + 1);
  }
  parts.push_back(text);
  return parts;
}

std::string_view trimmed(std::string_view text) {
  const std::size_t first = text.find_first_not_of(' ');
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(' ') - first + 1);
}

// A format's name, or bf16 for none.
Key<OperandSpec> format_key() {
  static const std::vector<std::string_view> names = [] {
    std::vector<std::string_view> list{kBf16};
    for (const BlockFormat& format : formats()) list.push_back(format.name);
    return list;
  }();
  const Domain domain{
      .kind = ValueKind::kChoice, .choices = names, .words = "bf16, or the name of a format that `ufp4 formats` lists"};
  return {{"format", domain, "what the operand is quantized to", {}},
          [](const OperandSpec& operand) -> Value {
            if (operand.format == nullptr) return Choice{0};
            for (std::size_t i = 0; i < formats().size(); ++i) {
              if (&formats()[i] == operand.format) return Choice{i + 1};
            }
            return std::string(operand.format->name);  // a caller's own format, which text cannot name
          },
          [](OperandSpec& operand, const Value& value) {
            const std::size_t index = std::get<Choice>(value).index;
            operand.format = index == 0 ? nullptr : &formats()[index - 1];
          }};
}

Key<OperandSpec> outer_key() {
  Key<OperandSpec> outer = key<&OperandSpec::outer, &OuterSpec::each>(
      "outer", {}, "int4_p2 and int4_i4: values of the operand that share a second-level scale; own: the format's own",
      {.initial = "own: tensor, of int4_i4 1x512"});
  outer.read = [](const OperandSpec& operand) -> Value {
    return Choice{static_cast<std::size_t>(operand.outer_each())};
  };
  return outer;
}

Key<OperandSpec> tau_key() {
  static constexpr std::array<std::string_view, 3> kNames{"auto", "1", "9/8"};
  static constexpr std::array<float, 3> kTaus{0.0F, 1.0F, 1.125F};
  return {{"tau",
           {.kind = ValueKind::kChoice, .choices = kNames, .words = {}},
           "int4_p2: how far the extreme of a block may lie beyond its scale before the next power of two is taken; "
           "auto: 9/8 to nearest, 1 stochastically",
           {}},
          [](const OperandSpec& operand) -> Value {
            const auto known = std::find(kTaus.begin(), kTaus.end(), operand.options.tau);
            if (known == kTaus.end()) return static_cast<double>(operand.options.tau);
            return Choice{static_cast<std::size_t>(known - kTaus.begin())};
          },
          [](OperandSpec& operand, const Value& value) { operand.options.tau = kTaus[std::get<Choice>(value).index]; }};
}

Key<Recipe> keep_bf16_key() {
  Key<Recipe> keep = key<&Recipe::keep_bf16>(
      "keep_bf16", {},
      "linear layers whose name matches one are not quantized; '*' stands for any characters, '?' for one",
      {.words = "patterns with commas between them, or a list"});
  keep.write = [](Recipe& recipe, const Value& value) {
    recipe.keep_bf16.clear();
    for (const std::string& pattern : std::get<std::vector<std::string>>(value)) {
      if (const std::string_view text = trimmed(pattern); !text.empty()) recipe.keep_bf16.emplace_back(text);
    }
  };
  return keep;
}

std::span<const Key<Recipe>> whole_keys() {
  static const std::vector<Key<Recipe>> keys{
      key<&Recipe::name>("name", {}, "how tables and reports call it", {.initial = "the file's name"}),
      key<&Recipe::summary>("summary", {}, "one line for people"),
      keep_bf16_key(),
  };
  return keys;
}

// The transform is of both operands.
Key<GemmRecipe> hadamard_key() {
  const Domain domain{.kind = ValueKind::kWhole,
                      .min = kAnyInt.min,
                      .max = kAnyInt.max,
                      .choices = {},
                      .words = "a whole number, 0, 16, 32, 64 or 128"};
  return {{"hadamard", domain, "length of the random Hadamard transform of both operands; 0: none", {}},
          [](const GemmRecipe& gemm) -> Value { return std::int64_t{gemm.hadamard()}; },
          [](GemmRecipe& gemm, const Value& value) {
            for (OperandSpec& operand : gemm.operand) {
              operand.hadamard.size = static_cast<int>(std::get<std::int64_t>(value));
            }
          }};
}

std::span<const Key<GemmRecipe>> gemm_keys() {
  static const std::vector<Key<GemmRecipe>> keys{hadamard_key()};
  return keys;
}

std::span<const Key<OperandSpec>> operand_keys() {
  static const std::vector<Key<OperandSpec>> keys{
      format_key(),
      key<&OperandSpec::block>("block", kAnyInt, "values that share a scale; 0: the format's own",
                               {.words = "a whole number, 0, 16, 32, 64 or 128"}),
      key<&OperandSpec::rounding>("rounding", {}, "to nearest with ties to even (rtne), or stochastic (sr)"),
      outer_key(),
      tau_key(),
      key<&OperandSpec::outer, &OuterSpec::amax>(
          "amax", {},
          "int4_p2 with outer = 'tensor': where the second-level scale comes from; exact: the "
          "operand itself; delayed: what it held in the step before"),
  };
  return keys;
}

[[noreturn]] void throw_unknown_key(std::string_view key) {
  std::vector<std::string> keys;
  for (const auto& [name, value] : entries(Recipe{})) keys.push_back(name);
  for (const Key<GemmRecipe>& known : gemm_keys()) keys.push_back("*." + std::string(known.name));
  for (const Key<OperandSpec>& known : operand_keys()) keys.push_back("*.*." + std::string(known.name));
  for (const std::string_view operand : {"dy", "x", "w"}) keys.push_back("*." + std::string(operand) + ".rounding");
  const std::vector<std::string_view> views(keys.begin(), keys.end());
  throw InputError("unknown recipe key '" + std::string(key) + "'" + name_hint(key, views));
}

Value checked(const KeyFacts& facts, std::string_view key, std::string_view text) {
  const std::optional<Value> value = parse_value(facts.domain, {std::string(text)});
  if (value && in_range(facts.domain, *value)) return *value;
  throw InputError("recipe key '" + std::string(key) + "' is '" + std::string(text) + "', expected " +
                   expectation(facts.domain) + choice_hint(facts.domain, text));
}

bool reaches(std::string_view pattern, std::string_view name) { return pattern == "*" || pattern == name; }

std::string value_text(const KeyFacts& facts, const Value& value) { return joined(text_of(facts.domain, value)); }

}  // namespace

void set(Recipe& recipe, std::string_view key, std::string_view value) {
  const std::vector<std::string_view> parts = parts_of(key, '.');
  bool matched = false;
  if (const Key<Recipe>* whole = find_key(whole_keys(), key)) {
    whole->write(recipe, checked(*whole, key, value));
    matched = true;
  }
  const Key<GemmRecipe>* const of_gemm = parts.size() == 2 ? find_key(gemm_keys(), parts[1]) : nullptr;
  const Key<OperandSpec>* const of_operand = parts.size() == 3 ? find_key(operand_keys(), parts[2]) : nullptr;
  for (GemmRecipe& gemm : recipe.gemm) {
    if (!reaches(parts[0], gemm.name)) continue;
    if (of_gemm != nullptr) {
      of_gemm->write(gemm, checked(*of_gemm, key, value));
      matched = true;
    }
    for (std::size_t i = 0; of_operand != nullptr && i < gemm.operand.size(); ++i) {
      if (!reaches(parts[1], gemm.operands[i])) continue;
      of_operand->write(gemm.operand[i], checked(*of_operand, key, value));
      matched = true;
    }
  }
  if (!matched) throw_unknown_key(key);
}

std::vector<std::pair<std::string, std::string>> entries(const Recipe& recipe) {
  std::vector<std::pair<std::string, std::string>> list;
  for (const Key<Recipe>& key : whole_keys()) list.emplace_back(key.name, value_text(key, key.read(recipe)));
  for (const GemmRecipe& gemm : recipe.gemm) {
    const std::string prefix = std::string(gemm.name) + ".";
    for (const Key<GemmRecipe>& key : gemm_keys()) {
      list.emplace_back(prefix + std::string(key.name), value_text(key, key.read(gemm)));
    }
    for (std::size_t i = 0; i < gemm.operand.size(); ++i) {
      for (const Key<OperandSpec>& key : operand_keys()) {
        list.emplace_back(prefix + std::string(gemm.operands[i]) + "." + std::string(key.name),
                          value_text(key, key.read(gemm.operand[i])));
      }
    }
  }
  return list;
}

std::vector<RecipeKeyFacts> recipe_key_facts() {
  const Recipe recipe;
  std::vector<RecipeKeyFacts> list;
  for (const Key<Recipe>& key : whole_keys()) {
    list.push_back({std::string(key.name), key, value_text(key, key.read(recipe)), {std::string(key.name)}});
  }
  for (const Key<GemmRecipe>& key : gemm_keys()) {
    RecipeKeyFacts row{"GEMM." + std::string(key.name), key, value_text(key, key.read(recipe.gemm[0])), {}};
    for (const GemmRecipe& gemm : recipe.gemm)
      row.names.push_back(std::string(gemm.name) + "." + std::string(key.name));
    list.push_back(std::move(row));
  }
  for (const Key<OperandSpec>& key : operand_keys()) {
    RecipeKeyFacts row{
        "GEMM.OPERAND." + std::string(key.name), key, value_text(key, key.read(recipe.gemm[0].operand[0])), {}};
    for (const GemmRecipe& gemm : recipe.gemm) {
      for (const std::string_view operand : gemm.operands) {
        row.names.push_back(std::string(gemm.name) + "." + std::string(operand) + "." + std::string(key.name));
      }
    }
    list.push_back(std::move(row));
  }
  return list;
}

}  // namespace ufp4
