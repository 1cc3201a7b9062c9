// torch seeds its generator from the system's entropy: tests want the same numbers each time.
#include <ATen/Context.h>
#include <gtest/gtest.h>

namespace {

class Seed : public testing::Environment {
 public:
  void SetUp() override { at::manual_seed(1); }
};

[[maybe_unused]] const testing::Environment* const kSeed = testing::AddGlobalTestEnvironment(new Seed);

}  // namespace
