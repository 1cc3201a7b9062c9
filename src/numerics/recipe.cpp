#include "ufp4/recipe.h"

#include <algorithm>

#include "ufp4/error.h"
#include "ufp4/format.h"

namespace ufp4 {
namespace {

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

}  // namespace

bool Recipe::quantized() const {
  return std::any_of(gemm.begin(), gemm.end(), [](const GemmRecipe& g) { return g.quantized(); });
}

bool Recipe::keeps_bf16(std::string_view layer) const {
  return std::any_of(keep_bf16.begin(), keep_bf16.end(),
                     [&](const std::string& pattern) { return glob_matches(pattern, layer); });
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
  }
}

}  // namespace ufp4
