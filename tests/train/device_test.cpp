#include "train/device.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "config/recipes.h"
#include "gpu_usable.h"
#include "train/micro_run.h"
#include "ufp4/error.h"

namespace ufp4 {
namespace {

DeviceChoice choose(DeviceKind kind, const std::vector<Recipe>& recipes,
                    const ModelConfig& model = micro_run("bf16").model) {
  return choose_device(kind, "train.device", model, recipes);
}

std::string refusal(const std::vector<Recipe>& recipes, const ModelConfig& model = micro_run("bf16").model) {
  try {
    choose(DeviceKind::kCuda, recipes, model);
  } catch (const InputError& error) {
    return error.what();
  }
  return {};
}

TEST(Device, TheCpuServesEveryRecipeAndNeedsNoReason) {
  const std::vector<Recipe> recipes{micro_run("nvfp4").recipe};
  const DeviceChoice choice = choose(DeviceKind::kCpu, recipes);
  EXPECT_EQ(choice.name(), "cpu");
  EXPECT_EQ(choice.note, "");
}

TEST(Device, WithoutAGpuAutoTakesTheCpuAndSaysWhy) {
  if (gpu_usable()) GTEST_SKIP() << "there is a GPU";
  const DeviceChoice choice = choose(DeviceKind::kAuto, {});
  EXPECT_TRUE(choice.device.is_cpu());
  EXPECT_TRUE(choice.note.starts_with("on the CPU: ")) << choice.note;
  const std::string message = refusal({});
  EXPECT_TRUE(message.starts_with("train.device is 'cuda', but ")) << message;
  EXPECT_TRUE(message.ends_with("; use the CPU")) << message;
}

TEST(Device, AutoTakesTheGpuWhereItsKernelsServeEveryRecipe) {
  if (!gpu_usable()) GTEST_SKIP() << "no GPU, or a build without CUDA";
  std::vector<Recipe> recipes;
  for (const std::string_view name : known_recipes()) recipes.push_back(load_recipe(std::string(name)));
  recipes.push_back(micro_run("ufp4_p2", {"recipe.*.*.amax=exact", "recipe.wgrad.*.outer=row"}).recipe);
  EXPECT_EQ(choose(DeviceKind::kAuto, recipes).name(), "cuda");
  EXPECT_EQ(choose(DeviceKind::kAuto, recipes).note, "");
}

TEST(Device, AModelThatItsLayersDoNotTakeIsNamed) {
  if (!gpu_usable()) GTEST_SKIP() << "no GPU, or a build without CUDA";
  const auto expect = [](std::initializer_list<const char*> overrides, const std::string& why) {
    const ModelConfig model = micro_run("bf16", overrides).model;
    EXPECT_NE(refusal({}, model).find(why), std::string::npos) << refusal({}, model);
    EXPECT_EQ(choose(DeviceKind::kAuto, {}, model).name(), "cpu");
  };
  expect({"model.d_model=96", "model.heads=4"}, "no heads (model.d_model / model.heads) of 24, only multiples of 16");
  expect({"model.ffn=100"}, "no model.ffn of 100, only multiples of 8");
  expect({"model.d_model=32768"}, "no model.d_model of 32768, only up to 16384");
}

}  // namespace
}  // namespace ufp4
