#include "torch/linear_op.h"

#include <ATen/core/ivalue.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <array>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "config/recipes.h"
#include "torch/linear_parts.h"
#include "torch/op_arguments.h"
#include "torch/pending_backward.h"
#include "torch/products.h"
#include "ufp4/error.h"

namespace ufp4::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// What a call carries beside its tensors, to the backward pass too.
struct Holder : torch::CustomClassHolder {
  Holder(PartCall c, bool packed, const at::Tensor& step) : call(std::move(c)), keeps_packed(packed), pending(step) {}

  PartCall call;  // without its tensors, which autograd keeps
  bool keeps_packed;
  PendingBackward pending;
};
using HolderPointer = c10::intrusive_ptr<Holder>;

at::Tensor value_of(const std::optional<at::Tensor>& tensor) { return tensor.value_or(at::Tensor()); }

std::optional<at::Tensor> if_given(const at::Tensor& tensor) {
  return tensor.defined() ? std::optional(tensor) : std::nullopt;
}

// Gradients as they come, and an error for whoever differentiates them again.
class OnceDifferentiable : public torch::autograd::Function<OnceDifferentiable> {
 public:
  static variable_list forward(AutogradContext* /*ctx*/, const at::Tensor& dy, const SavedInput& input,
                               const at::Tensor& weight, const std::optional<at::Tensor>& dgrad,
                               const std::optional<at::Tensor>& dgrad_scale, bool want_dx, bool want_dw,
                               const PartCall& call) {
    auto [dx, dw] = linear_backward(dy, input, weight, value_of(dgrad), value_of(dgrad_scale), want_dx, want_dw, call);
    return {dx, dw};
  }

  static variable_list backward(AutogradContext* /*ctx*/, const variable_list& /*gradients*/) {
    throw InputError(
        "ufp4 linear: a gradient of its gradient was asked for, and quantization has none: "
        "its products can be differentiated once");
  }
};

class LinearFunction : public torch::autograd::Function<LinearFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight,
                            const std::optional<at::Tensor>& fprop, const std::optional<at::Tensor>& fprop_scale,
                            const std::optional<at::Tensor>& dgrad, const std::optional<at::Tensor>& dgrad_scale,
                            const std::optional<at::Tensor>& step, const std::optional<at::Tensor>& layer,
                            const std::optional<at::Tensor>& token, const HolderPointer& holder) {
    const bool keep = weight.requires_grad();
    PartCall call = holder->call;
    call.step_tensor = step;
    call.layer_tensor = layer;
    call.token_tensor = token;
    auto [y, codes, scales, outer_scales] =
        linear_forward(x, weight, value_of(fprop), value_of(fprop_scale), keep && holder->keeps_packed, call);
    ctx->save_for_backward({keep && !holder->keeps_packed ? x : at::Tensor(), codes, scales, outer_scales, weight,
                            value_of(dgrad), value_of(dgrad_scale), value_of(step), value_of(layer), value_of(token)});
    ctx->saved_data["call"] = c10::IValue::make_capsule(holder);
    return y;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const auto holder = c10::static_intrusive_pointer_cast<Holder>(ctx->saved_data["call"].toCapsule());
    const variable_list saved = ctx->get_saved_variables();
    holder->pending.done();
    variable_list result(10);  // one for every argument of forward
    if (!gradients[0].defined()) return result;
    PartCall call = holder->call;
    call.step_tensor = if_given(saved[7]);
    call.layer_tensor = if_given(saved[8]);
    call.token_tensor = if_given(saved[9]);
    const bool want_dx = ctx->needs_input_grad(0);
    const bool want_dw = ctx->needs_input_grad(1);
    const variable_list made =
        OnceDifferentiable::apply(gradients[0], SavedInput{saved[0], saved[1], saved[2], saved[3]}, saved[4],
                                  if_given(saved[5]), if_given(saved[6]), want_dx, want_dw, call);
    if (want_dx) result[0] = made[0];
    if (want_dw) result[1] = made[1];
    return result;
  }
};

bool is_float(const at::Tensor& tensor) {
  return tensor.scalar_type() == at::kFloat || tensor.scalar_type() == at::kBFloat16;
}

void check(const at::Tensor& x, const at::Tensor& weight) {
  const auto fail = [](const std::string& message) { throw InputError("linear: " + message); };
  const auto check_type = [&](const std::string& name, const at::Tensor& tensor) {
    if (is_float(tensor)) return;
    fail(name + " is " + dtype_name(tensor.scalar_type()) + ", expected BFloat16 or Float" +
         (tensor.scalar_type() == at::kHalf ? " (FP16 lacks the range of gradients: convert the model to BF16)" : ""));
  };
  check_type("x", x);
  check_type("the weight", weight);
  check_shapes("linear", x, weight);
  for (const at::Tensor* const tensor : {&x, &weight}) {
    if (tensor->_fw_grad(0).defined()) fail("there is no forward-mode derivative (jvp): use backward()");
  }
}

// [rows, in] in BF16.
at::Tensor as_bf16_rows(const at::Tensor& x) {
  at::Tensor values = x.to(at::kBFloat16);
  if (values.dim() == 2) return values;
  c10::SymInt rows = 1;
  for (std::int64_t i = 0; i + 1 < values.dim(); ++i) rows *= values.sym_size(i);
  return values.reshape_symint({rows, values.sym_size(-1)});
}

void check_prepared(const std::vector<at::Tensor>& prepared) {
  if (prepared.empty() || prepared.size() == 4) return;
  throw InputError("linear: prepared has " + std::to_string(prepared.size()) +
                   " tensors, expected the 4 of quantize_weight");
}

}  // namespace

std::shared_ptr<const Recipe> shared_recipe(std::string_view text) {
  static std::mutex mutex;
  static std::map<std::string, std::shared_ptr<const Recipe>, std::less<>> known;
  const std::scoped_lock guard(mutex);
  auto found = known.find(text);
  if (found == known.end()) {
    found = known.emplace(std::string(text), std::make_shared<const Recipe>(find_or_parse_recipe(text))).first;
  }
  return found->second;
}

std::string choose_product_names(const Recipe& recipe, const at::Tensor& weight, std::string_view wanted) {
  if (wanted != "auto" && wanted != "emulated") {
    throw InputError("product '" + std::string(wanted) + "' is neither 'auto' nor 'emulated'");
  }
  const ProductChoice choice = wanted == "auto" ? ProductChoice::kFastest : ProductChoice::kEmulated;
  const std::array<std::int64_t, 2> sides{weight.sym_size(0).guard_int(__FILE__, __LINE__),
                                          weight.sym_size(1).guard_int(__FILE__, __LINE__)};
  const ChosenProducts chosen = choose_products(recipe, weight.device(), sides, choice);
  std::string names;
  for (const Product* const product : chosen.gemm) names.append(names.empty() ? "" : ",").append(product->name);
  return names;
}

at::Tensor linear_op(const at::Tensor& x, const at::Tensor& weight, std::string_view recipe, const LinearPlace& place,
                     const LinearOptions& options) {
  check(x, weight);
  ufp4::check(DeviceNumbers{value_of(place.step_tensor), value_of(place.layer_tensor), value_of(place.token_tensor)},
              x.device());
  check_prepared(options.prepared);
  const std::shared_ptr<const Recipe> read = shared_recipe(recipe);
  const bool differentiable = at::GradMode::is_enabled() && (x.requires_grad() || weight.requires_grad());
  check_placed(*read, place, differentiable);
  PartCall call{std::string(recipe), choose_product_names(*read, weight, options.product),
                place_list(place),   place.step_tensor,
                place.layer_tensor,  place.token_tensor};
  const at::Tensor rows = as_bf16_rows(x);
  std::vector<at::Tensor> prepared = options.prepared;
  at::Tensor y;
  if (!differentiable) {
    prepared.resize(4);
    y = std::get<0>(linear_forward(rows, weight, prepared[0], prepared[1], false, call));
  } else {
    if (prepared.empty() && options.keep_weight) {
      const at::NoGradGuard no_grad;
      auto [fprop, fprop_scale, dgrad, dgrad_scale] = quantize_weight(weight.detach(), call);
      prepared = {fprop, fprop_scale, dgrad, dgrad_scale};
    }
    prepared.resize(4);
    const bool keeps_packed = options.stash && (*read)[Gemm::kWgrad].operand[1].quantized();
    PartCall without_tensors = call;
    without_tensors.step_tensor = without_tensors.layer_tensor = without_tensors.token_tensor = std::nullopt;
    const auto holder =
        c10::make_intrusive<Holder>(std::move(without_tensors), keeps_packed, value_of(place.step_tensor));
    y = LinearFunction::apply(rows, weight, if_given(prepared[0]), if_given(prepared[1]), if_given(prepared[2]),
                              if_given(prepared[3]), place.step_tensor, place.layer_tensor, place.token_tensor, holder);
  }
  y = y.to(x.scalar_type());
  if (x.dim() == 2) return y;
  std::vector<c10::SymInt> shape = x.sym_sizes().vec();
  shape.back() = weight.sym_size(0);
  return y.view_symint(shape);
}

}  // namespace ufp4::ops
