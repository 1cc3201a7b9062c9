// A checkpoint run on a batch of text, forward and backward, to see what quantization does to its signals.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <vector>

#include "config/run_config.h"
#include "train/operand_report.h"

namespace ufp4 {

struct BatchSettings {
  std::filesystem::path checkpoint;  // its folder, or that of its run: then the newest
  std::vector<std::string> data;     // as data.train; empty: what the run was validated on, or else trained on
  std::int64_t sequences = 4;        // of the model's context
  int threads = 1;
  DeviceKind device = DeviceKind::kAuto;  // what is measured on values is measured on the CPU
  // Told of the device and of each pass as it begins; may be empty.
  std::function<void(const std::string&)> log = {};
};

// The six operands of every linear of the model in BF16, in the order of the passes. Throws InputError for a checkpoint
// or data that cannot be used; `report` is given each as it is made.
void analyze_operands(const BatchSettings& settings, std::span<const OperandSpec> schemes,
                      const std::function<void(const OperandReport&)>& report);

// How an image B stands to its original A.
struct Agreement {
  double alpha = 1;   // <B, A> / <A, A>: what is left of the signal
  double cosine = 1;  // <B, A> / (|A| |B|)
  double nmse = 0;    // |B - A|^2 / |A|^2
};

// One GEMM of one linear under a recipe.
struct ChainGemm {
  std::array<double, 2> alpha{1, 1};  // of its operands as the BF16 pass has them
  Agreement alone;                    // its result from these operands, quantized
  // Of the residual E = C^ - eta C of that result with the signal C: <E, C> / (|E| |C|), where eta is the product of
  // the two alphas. Eq. 3 to 5 take it as zero.
  double coherence = 0;
  Agreement in_chain;      // its result in the quantized pass against that in the BF16 pass
  double eta_product = 1;  // of this kind of GEMM over the chain up to here, in the order of the pass

  double eta() const { return alpha[0] * alpha[1]; }
};

struct ChainLinear {
  std::string linear;
  std::array<ChainGemm, 3> gemm;  // fprop, dgrad, wgrad; the product means nothing for wgrad, which ends a chain
};

// The residual stream behind a linear that adds to it, and the gradient there.
struct ChainStream {
  std::string linear;
  Agreement forward;
  Agreement gradient;
};

struct ChainRecipe {
  std::string name;
  std::array<int, 3> hadamard{};  // size of the transform in fprop, dgrad and wgrad, 0: none
  double loss = 0;
  std::vector<ChainLinear> linears;  // in model order
  std::vector<ChainStream> stream;   // in model order
};

struct ChainReport {
  std::int64_t step = 0;
  std::int64_t tokens = 0;
  double loss = 0;  // in BF16
  std::vector<ChainRecipe> recipes;
};

// The format for all operands, rounded to nearest, with the transform on all GEMMs or (0) on none: a recipe called
// "e2m1" or "e2m1+rht16". Throws InputError for a format that recipes do not take.
Recipe recipe_of_format(const BlockFormat& format, int hadamard);

// Runs the model in BF16 and under every recipe on the same text, and compares pass with pass and GEMM with GEMM.
ChainReport measure_chain(const BatchSettings& settings, std::span<const Recipe> recipes);

nlohmann::ordered_json to_json(const ChainReport& report);

}  // namespace ufp4
