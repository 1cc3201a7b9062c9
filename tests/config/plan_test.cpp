#include "config/plan.h"

#include <gtest/gtest.h>

#include "message_of.h"
#include "ufp4/error.h"

namespace ufp4 {
namespace {

struct Measured {
  const char* model;
  const char* recipe;
  std::int64_t sequences;
  double tokens_per_s;
};

// docs/performance.md, "Training on a GPU": the first figure of each row without other settings.
TEST(Plan, StepsAreThoseThatWereMeasuredToTenPercent) {
  for (const Measured& row :
       {Measured{"1.5b", "bf16", 4, 56048}, Measured{"1.5b", "ufp4", 4, 51621}, Measured{"1.5b", "ufp4_p2", 4, 71725},
        Measured{"wide", "bf16", 4, 42893}, Measured{"wide", "ufp4_p2", 4, 62971}, Measured{"350m", "bf16", 16, 193683},
        Measured{"350m", "ufp4", 16, 171228}, Measured{"350m", "ufp4_p2", 16, 218260}}) {
    const bool wide = std::string_view(row.model) == "wide";
    ModelConfig model = load_model_config(wide ? "1.5b" : row.model);
    model.vocab_size = 32000;
    if (wide) {
      model.d_model = 4096;
      model.layers = 8;
      model.heads = 32;
      model.ffn = 14336;
    }
    const std::int64_t tokens = row.sequences * model.context;
    const StepTime time = step_time(model, load_recipe(row.recipe), tokens, find_device("h200"));
    const double found = static_cast<double>(tokens) / time.total();
    EXPECT_NEAR(found / row.tokens_per_s, 1, 0.1) << row.model << " " << row.recipe;
  }
}

TEST(Plan, AnUnknownDeviceIsRefused) {
  EXPECT_NE(message_of<InputError>([] { find_device("h20"); }).find("--on is 'h20' (did you mean 'h200'?)"),
            std::string::npos);
}

}  // namespace
}  // namespace ufp4
