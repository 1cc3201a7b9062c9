// A recipe: what is quantized in the three GEMMs of a linear layer, and how. Data, not code.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ufp4/operand.h"

namespace ufp4 {

// One GEMM with its two operands. The transform belongs to the GEMM: both operands share size and mask, so that the
// product needs no inverse.
struct GemmRecipe {
  std::string_view name;                     // "fprop", "dgrad", "wgrad"
  std::array<std::string_view, 2> operands;  // fprop: x, w; dgrad: dy, w; wgrad: dy, x
  // Blocks run along the GEMM's contraction axis. Both have one transform, or none. An operand in
  // BF16 takes it too where the other one is quantized, and is rounded to BF16 after it.
  std::array<OperandSpec, 2> operand;

  // The size of the transform that both operands have.
  int hadamard() const { return operand[0].hadamard.size; }
  bool quantized() const { return operand[0].quantized() || operand[1].quantized(); }
};

enum class Gemm : std::uint8_t { kFprop, kDgrad, kWgrad };

struct Recipe {
  std::string name = "bf16";
  std::string summary;
  std::array<GemmRecipe, 3> gemm{{{"fprop", {"x", "w"}, {}}, {"dgrad", {"dy", "w"}, {}}, {"wgrad", {"dy", "x"}, {}}}};
  std::vector<std::string> keep_bf16;  // glob patterns (*, ?) of linear layers that stay BF16: "layers.0.*"

  const GemmRecipe& operator[](Gemm g) const { return gemm[static_cast<std::size_t>(g)]; }
  GemmRecipe& operator[](Gemm g) { return gemm[static_cast<std::size_t>(g)]; }
  bool quantized() const;
  // Whether the linear layer called `layer` stays BF16.
  bool keeps_bf16(std::string_view layer) const;
};

// Throws InputError if the parts do not fit together: a block or a transform that there is not, ..
void validate(const Recipe& recipe);

}  // namespace ufp4
