// The estimate of a run's memory beside what runs have taken (docs/performance.md), and what it is made of.
#include "train/memory.h"

#include <gtest/gtest.h>

#include "message_of.h"
#include "micro_run.h"
#include "ufp4/error.h"

namespace ufp4 {
namespace {

constexpr double kGiB = 1024.0 * 1024.0 * 1024.0;
const c10::Device kGpu(c10::kCUDA, 0);

RunConfig large_run(const char* recipe, std::initializer_list<const char*> overrides = {}) {
  std::vector<Assignment> list{{"model.base", {"1.5b"}, "test"}, {"recipe.base", {recipe}, "test"}};
  for (const char* text : {"model.vocab_size=32000", "train.batch=4"}) list.push_back(parse_override(text, "test"));
  for (const char* text : overrides) list.push_back(parse_override(text, "test"));
  return make_run_config(list);
}

TEST(MemoryEstimate, IsNotBelowAndNotFarAboveWhatRunsTake) {
  const auto expect_near = [](const RunConfig& config, double measured) {
    const double estimate = estimate_memory(config, kGpu).total / kGiB;
    EXPECT_GT(estimate, measured) << config.recipe.name;
    EXPECT_LT(estimate, 1.08 * measured) << config.recipe.name;
  };
  expect_near(large_run("bf16"), 45.19);
  expect_near(large_run("ufp4_p2"), 37.30);
  expect_near(large_run("ufp4_p2", {"train.recompute=ffn", "train.recompute_layers=9"}), 33.92);
  expect_near(large_run("ufp4", {"train.stash=none"}), 35.58);
  expect_near(large_run("ufp4_p2", {"train.stash=none", "train.recompute=ffn", "train.recompute_layers=4"}), 33.69);
  expect_near(large_run("ufp4_p2", {"train.offload_layers=9"}), 33.98);
  expect_near(large_run("ufp4_p2", {"train.stash=none", "train.offload_layers=4"}), 33.75);
  const auto wide = [](const char* recipe, const char* stash = "train.stash=packed",
                       const char* offload = "train.offload_layers=0") {
    return large_run(recipe,
                     {"model.d_model=4096", "model.layers=8", "model.heads=32", "model.ffn=14336", stash, offload});
  };
  expect_near(wide("bf16"), 49.59);
  expect_near(wide("ufp4_p2"), 41.69);
  expect_near(wide("ufp4_p2", "train.stash=none", "train.offload_layers=4"), 36.64);
  const auto small = [](const char* recipe) { return large_run(recipe, {"model.base=350m", "train.batch=16"}); };
  expect_near(small("bf16"), 30.15);
  expect_near(small("ufp4_p2"), 24.42);
}

TEST(MemoryEstimate, WhatWaitsInTheHostsMemoryIsNotOnTheDevice) {
  const MemoryEstimate none = estimate_memory(large_run("ufp4_p2"), kGpu);
  const MemoryEstimate four = estimate_memory(large_run("ufp4_p2", {"train.offload_layers=4"}), kGpu);
  EXPECT_EQ(none.host, 0);
  EXPECT_EQ(four.host / kGiB, 4 * 0.5) << "4 x 4096 tokens x 12288 values of BF16 are 0.375 GiB, and torch takes 0.5";
  EXPECT_EQ((none.total - four.total) / kGiB, 4 * 0.375);
  const char* some_anew = "train.recompute_layers=3";
  EXPECT_EQ(
      estimate_memory(large_run("ufp4_p2", {"train.recompute=ffn", "train.offload_layers=1", some_anew}), kGpu).total,
      four.total);
}

TEST(MemoryEstimate, NothingOfACpuIsOffloaded) {
  const std::string message = message_of<InputError>([] {
    check_memory(micro_run("ufp4", {"train.offload_layers=3", "model.vocab_size=64"}), c10::Device(c10::kCPU));
  });
  EXPECT_NE(message.find("train.offload_layers is 3"), std::string::npos) << message;
  EXPECT_NE(message.find("expected 0"), std::string::npos) << message;
}

TEST(MemoryEstimate, MoreThanTheHostHasIsRefused) {
  const std::string message = message_of<InputError>([] {
    check_memory(large_run("bf16", {"train.batch=65536", "model.layers=1000", "train.offload_layers=1000"}), kGpu);
  });
  EXPECT_NE(message.find("of the host's memory"), std::string::npos) << message;
}

TEST(MemoryEstimate, GradientsAndOperandsOfWeightsAreThereWithSeveralMicroBatches) {
  const MemoryEstimate one = estimate_memory(large_run("ufp4"), kGpu);
  const MemoryEstimate four = estimate_memory(large_run("ufp4", {"train.batch=16", "train.micro_batch=4"}), kGpu);
  EXPECT_EQ(one.activations, four.activations);
  EXPECT_EQ(one.total, one.state + one.activations);
  EXPECT_EQ(four.total, four.state + four.gradients + four.activations);
  EXPECT_EQ(four.state - one.state, four.gradients) << "4 bytes a parameter, like the operands of weights in BF16";
}

TEST(MemoryEstimate, ARunThatDoesNotFitIsRefusedWithTheNumbers) {
  const std::string message = message_of<InputError>([] {
    check_memory(large_run("bf16", {"train.batch=65536", "model.layers=1000"}), c10::Device(c10::kCPU));
  });
  EXPECT_NE(message.find("GiB for gradients"), std::string::npos) << message;
  EXPECT_NE(message.find("65536 x 4096 tokens"), std::string::npos) << message;
}

}  // namespace
}  // namespace ufp4
