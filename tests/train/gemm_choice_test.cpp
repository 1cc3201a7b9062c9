#include "train/gemm_choice.h"

#include <gtest/gtest.h>

#include "torch/fp8.h"
#include "train/micro_run.h"

namespace ufp4 {
namespace {

std::string emulated_on_cpu() { return "emulated: " + std::string(description(gemm_kind(at::kCPU))); }

TEST(GemmChoice, WithoutQuantizationNothingIsEmulated) {
  EXPECT_EQ(choose_gemm(micro_run("bf16"), at::kCPU).description, description(gemm_kind(at::kCPU)));
}

TEST(GemmChoice, OnlyE4m3OperandsAskForFp8) {
  for (const char* recipe : {"ufp4", "e2m1", "nvfp4"}) {
    const GemmChoice choice = choose_gemm(micro_run(recipe), at::kCPU);
    EXPECT_EQ(choice.path, GemmPath::kEmulated) << recipe;
    EXPECT_EQ(choice.description, emulated_on_cpu()) << recipe;
  }
  const RunConfig rows = micro_run("ufp4_p2", {"recipe.*.*.amax=exact", "recipe.*.*.outer=row"});
  EXPECT_EQ(choose_gemm(rows, at::kCPU).description, emulated_on_cpu());
}

TEST(GemmChoice, ADeviceWithoutFp8EmulatesAndSaysSo) {
  for (const char* recipe : {"ufp4_p2", "ufp4_p2_backward"}) {
    const GemmChoice choice = choose_gemm(micro_run(recipe), at::kCPU);
    EXPECT_EQ(choice.path, GemmPath::kEmulated) << recipe;
    EXPECT_TRUE(choice.description.ends_with("(no FP8 tensor cores here)")) << choice.description;
  }
}

TEST(GemmChoice, EmulationCanBeAskedFor) {
  const GemmChoice choice = choose_gemm(micro_run("ufp4_p2", {"train.gemm=emulated"}), at::kCPU);
  EXPECT_EQ(choice.description, emulated_on_cpu());
}

TEST(GemmChoice, ADeviceWithFp8TakesItWhereTheShapesFit) {
  const at::Device gpu(at::kCUDA, 0);
  if (!has_fp8(gpu)) GTEST_SKIP() << "no GPU with FP8 tensor cores, or a build without CUDA";
  EXPECT_EQ(choose_gemm(micro_run("ufp4_p2"), gpu).description, "fp8");
  const GemmChoice part = choose_gemm(micro_run("ufp4_p2_backward"), gpu);
  EXPECT_EQ(part.path, GemmPath::kFp8);
  EXPECT_EQ(part.description, "fp8: dgrad, wgrad; the rest emulated: bf16");
  const GemmChoice odd = choose_gemm(micro_run("ufp4_p2", {"model.ffn=72"}), gpu);
  EXPECT_EQ(odd.path, GemmPath::kEmulated);
  EXPECT_TRUE(odd.description.ends_with("multiples of 16)")) << odd.description;
}

}  // namespace
}  // namespace ufp4
