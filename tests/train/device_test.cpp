#include "train/device.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "train/micro_run.h"
#include "ufp4/error.h"

namespace ufp4 {
namespace {

std::string refusal(const std::vector<Recipe>& recipes) {
  try {
    choose_device("cuda", "train.device", recipes);
  } catch (const InputError& error) {
    return error.what();
  }
  return {};
}

TEST(Device, TheCpuServesEveryRecipeAndNeedsNoReason) {
  const std::vector<Recipe> recipes{micro_run("nvfp4").recipe};
  const DeviceChoice choice = choose_device("cpu", "train.device", recipes);
  EXPECT_EQ(choice.name(), "cpu");
  EXPECT_EQ(choice.note, "");
}

TEST(Device, WithoutAGpuAutoTakesTheCpuAndSaysWhy) {
  if (gpu_usable()) GTEST_SKIP() << "there is a GPU";
  const DeviceChoice choice = choose_device("auto", "train.device", {});
  EXPECT_TRUE(choice.device.is_cpu());
  EXPECT_TRUE(choice.note.starts_with("on the CPU: ")) << choice.note;
  const std::string message = refusal({});
  EXPECT_TRUE(message.starts_with("train.device is 'cuda', but ")) << message;
  EXPECT_TRUE(message.ends_with("; use the CPU")) << message;
}

TEST(Device, AutoTakesTheGpuWhereItsKernelsServeEveryRecipe) {
  if (!gpu_usable()) GTEST_SKIP() << "no GPU, or a build without CUDA";
  std::vector<Recipe> recipes;
  for (const char* name : {"bf16", "ufp4", "e2m1", "ufp4_p2"}) recipes.push_back(micro_run(name).recipe);
  EXPECT_EQ(choose_device("auto", "train.device", recipes).name(), "cuda");
  EXPECT_EQ(choose_device("auto", "train.device", recipes).note, "");
  recipes.push_back(micro_run("ufp4_p2", {"recipe.*.*.amax=exact", "recipe.wgrad.*.outer=row"}).recipe);
  EXPECT_NE(refusal(recipes).find("second-level scales for each row has no GPU kernels"), std::string::npos);
  recipes.pop_back();
  recipes.push_back(micro_run("nvfp4").recipe);
  const DeviceChoice choice = choose_device("auto", "train.device", recipes);
  EXPECT_EQ(choice.name(), "cpu");
  EXPECT_NE(choice.note.find("format 'nvfp4' has no GPU kernels"), std::string::npos) << choice.note;
  EXPECT_NE(refusal(recipes).find("format 'nvfp4' has no GPU kernels"), std::string::npos);
}

}  // namespace
}  // namespace ufp4
