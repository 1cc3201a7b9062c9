// quantize_both of what a layer makes, as one operator, against the layer's pass and then the operator on its result.
#include "torch/layer_ops.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/randn.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "test_devices.h"
#include "torch/layer_passes.h"

namespace ufp4 {
namespace {

using Keywords = std::map<std::string, c10::IValue>;

// A call as Python makes it: what `keywords` does not name has its default.
std::vector<at::Tensor> call(const char* name, std::vector<c10::IValue> stack, const Keywords& keywords) {
  const c10::OperatorHandle op = c10::Dispatcher::singleton().findSchemaOrThrow(name, "");
  const std::vector<c10::Argument>& arguments = op.schema().arguments();
  for (std::size_t i = stack.size(); i < arguments.size(); ++i) {
    const auto found = keywords.find(arguments[i].name());
    stack.push_back(found != keywords.end() ? found->second : arguments[i].default_value().value());
  }
  op.callBoxed(stack);
  std::vector<at::Tensor> results;
  results.reserve(stack.size());
  for (const c10::IValue& value : stack) results.push_back(value.toTensor());
  return results;
}

void expect_equal(const std::vector<at::Tensor>& found, const std::vector<at::Tensor>& expected,
                  const std::string& what) {
  ASSERT_EQ(found.size(), expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    EXPECT_EQ(found[i].scalar_type(), expected[i].scalar_type()) << "result " << i << " of " << what;
    EXPECT_TRUE(at::equal(found[i], expected[i])) << "result " << i << " of " << what;
  }
}

// Formats that the kernels of `device` know, with other settings beside them, and one that on a GPU no layer fuses.
std::vector<Keywords> settings(const at::Device& device) {
  const at::Tensor step = at::full({1}, 7, at::TensorOptions(at::kInt).device(device));
  std::vector<Keywords> list{
      {{"row_format", "e1m2"}, {"column_format", "e1m2"}},
      {{"row_format", "e1m2"},
       {"column_format", "e2m1"},
       {"row_hadamard", 16},
       {"column_hadamard", 32},
       {"row_rounding", "sr"},
       {"column_rounding", "sr"},
       {"row_stream", 3},
       {"column_stream", 4},
       {"column_block", 32},
       {"hadamard_seed", 11},
       {"seed", -12},
       {"row_offset", 40},
       {"column_offset", 8},
       {"step_tensor", step}},
      {{"row_format", "int4_p2"}, {"column_format", "int4_p2"}, {"column_rounding", "sr"}, {"packed", false}},
      {{"row_format", "int4_p2"}, {"column_format", "int4_full"}, {"row_tau", 1.0}, {"step", 5}},
  };
  if (device.is_cpu()) {
    list.push_back({{"row_format", "nvfp4"}, {"column_format", "mxfp4"}});
    list.push_back({{"row_format", "int4_p2"}, {"column_format", "int4_p2"}, {"column_outer", "1x128"}});
  }
  return list;
}

at::Tensor random_bf16(at::IntArrayRef shape, const at::Device& device) {
  return at::randn(shape).to(at::kBFloat16).to(device);
}

TEST(LayerOps, GiveTheBitsOfTheirParts) {
  for (const at::Device& device : test_devices()) {
    const std::vector<std::int64_t> widths =
        device.is_cpu() ? std::vector<std::int64_t>{37, 200} : std::vector<std::int64_t>{200};
    for (const std::int64_t columns : widths) {
      const at::Tensor x = random_bf16({150, columns}, device);
      const at::Tensor h = random_bf16({2 * columns, 150}, device).t();  // not dense
      const at::Tensor weight = at::randn({columns}).to(device);
      for (const Keywords& keywords : settings(device)) {
        const auto expect_parts = [&](const char* name, const std::vector<c10::IValue>& inputs,
                                      const at::Tensor& made) {
          expect_equal(call(name, inputs, keywords), call("ufp4::quantize_both", {made}, keywords),
                       std::string(name) + " on " + device.str() + " with " + keywords.at("row_format").toStringRef());
        };
        expect_parts("ufp4::rms_norm_quantize_both", {x, weight, 1e-5},
                     rms_norm_forward(rms_statistics(x, {}, 1e-5), weight));
        expect_parts("ufp4::swiglu_quantize_both", {h}, swiglu_forward(h));
        expect_parts("ufp4::swiglu_backward_quantize_both", {x, h}, swiglu_backward(x, h));
      }
    }
  }
}

TEST(LayerOps, TakeEmptyMatrices) {
  const Keywords keywords{{"row_format", "e1m2"}, {"column_format", "e1m2"}};
  const std::vector<at::Tensor> found = call("ufp4::swiglu_quantize_both", {random_bf16({0, 40}, at::kCPU)}, keywords);
  EXPECT_EQ(found[0].sizes(), at::IntArrayRef({0, 32}));
  EXPECT_EQ(found[1].sizes(), at::IntArrayRef({20, 0}));
}

}  // namespace
}  // namespace ufp4
