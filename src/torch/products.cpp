#include "torch/products.h"

#include <ATen/Parallel.h>
#include <ATen/cpu/Utils.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <c10/core/DeviceGuard.h>

#include <algorithm>
#include <atomic>
#include <utility>
#include <vector>

#include "cpu/product.h"
#include "numerics/near_name.h"
#include "ufp4/error.h"
#include "ufp4/format.h"

namespace ufp4 {
namespace {

// The part of the contraction axis that both operands have.
std::pair<at::Tensor, at::Tensor> common_depth(const QuantizedTensor& a, const QuantizedTensor& b, std::int64_t depth) {
  const auto cut = [&](const at::Tensor& t) { return t.size(1) == depth ? t : t.narrow(1, 0, depth); };
  return {cut(a.values), cut(b.values)};
}

void store(at::Tensor& out, const at::Tensor& product, Accumulate accumulate) {
  accumulate == Accumulate::kAdd ? out.add_(product) : out.copy_(product);
}

// A matrix whose rows or columns lie side by side, as the product reads either; anything else is copied.
cpu::ProductOperand operand_on_cpu(at::Tensor& matrix) {
  using Contracted = cpu::ProductOperand::Contracted;
  const auto dense = [&](std::int64_t along, std::int64_t across) {
    return (matrix.size(along) <= 1 || matrix.stride(along) == 1) &&
           (matrix.size(across) <= 1 || matrix.stride(across) >= matrix.size(along));
  };
  const bool rows = dense(1, 0);
  if (!rows && !dense(0, 1)) matrix = matrix.contiguous();
  const bool transposed = !rows && dense(0, 1);
  return {static_cast<const std::uint16_t*>(matrix.const_data_ptr()), matrix.stride(transposed ? 1 : 0),
          transposed ? Contracted::kRows : Contracted::kColumns};
}

// torch has no product of BF16 matrices with an FP32 result there.
void run_bf16_to_fp32_on_cpu(const ProductShape& shape, at::Tensor a, at::Tensor b, at::Tensor& out) {
  const cpu::Product product{.m = shape.m,
                             .n = shape.n,
                             .k = shape.k,
                             .a = operand_on_cpu(a),
                             .b = operand_on_cpu(b),
                             .c = out.mutable_data_ptr<float>(),
                             .c_row_stride = out.stride(0),
                             .add = shape.accumulate == Accumulate::kAdd};
  const cpu::ProductKernel& kernel = cpu::best_product_kernel();
  const cpu::ProductTiles tiles = cpu::split_product(shape.m, shape.n);
  at::parallel_for(0, tiles.count(), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) kernel.multiply(product, tiles[i]);
  });
}

void run_bf16(const ProductShape& shape, const QuantizedTensor& any_a, const QuantizedTensor& any_b, at::Tensor& out) {
  const auto [a, b] = common_depth(any_a, any_b, shape.k);
  const bool add = shape.accumulate == Accumulate::kAdd;
  if (shape.out == at::kFloat && out.is_cpu()) {
    run_bf16_to_fp32_on_cpu(shape, a, b, out);
  } else if (shape.out == at::kFloat) {
    add ? at::addmm_out(out, out, a, b.t(), at::kFloat) : at::mm_out(out, a, b.t(), at::kFloat);
  } else {
    add ? at::addmm_out(out, out, a, b.t()) : at::mm_out(out, a, b.t());
  }
}

void run_fp32(const ProductShape& shape, const QuantizedTensor& any_a, const QuantizedTensor& any_b, at::Tensor& out) {
  const auto [a, b] = common_depth(any_a, any_b, shape.k);
  store(out, at::mm(a.to(at::kFloat), b.to(at::kFloat).t()), shape.accumulate);
}

bool takes_any(const OperandSpec&, const OperandSpec&) { return true; }

bool takes_e4m3(const OperandSpec& a, const OperandSpec& b) {
  const auto exact = [](const OperandSpec& spec) {
    return spec.quantized() && spec.format->exact == ExactValue::kE4m3 && spec.outer_each() == OuterScale::kTensor;
  };
  return exact(a) && exact(b);
}

bool everywhere(const at::Device&) { return true; }

#ifdef UFP4_HAVE_CUDA
constexpr auto fp8_available = cuda_fp8::available;
constexpr auto run_fp8 = cuda_fp8::run;
#else
bool fp8_available(const at::Device&) { return false; }
void run_fp8(const ProductShape& shape, const QuantizedTensor&, const QuantizedTensor&, at::Tensor&) {
  throw InputError(describe("fp8", shape) + ": this build has no FP8 products (configure with -DUFP4_CUDA=ON)");
}
#endif

// Narrow products first: a recipe takes the first that can be had.
const std::array kProducts{
    Product{"fp8", Form::kE4m3, 16, takes_e4m3, fp8_available, run_fp8},
    Product{"bf16", Form::kBf16, 1, takes_any, everywhere, run_bf16},
    Product{"fp32", Form::kBf16, 1, takes_any, [](const at::Device& device) { return device.is_cpu(); }, run_fp32},
};

constexpr std::array<std::string_view, 4> kFastBf16{"avx512_bf16", "amx_bf16", "arm_bf16", "bf16"};

const Product& product_of_this_cpu() {
  std::vector<std::string_view> features;
  const auto capabilities = at::cpu::get_cpu_capabilities();
  for (const auto& [name, value] : capabilities) {
    if (value.isBool() && value.toBool()) features.push_back(name);
  }
  return cpu_product(features);
}

std::atomic<const Product*>& on_cpu() {
  static std::atomic<const Product*> product{&product_of_this_cpu()};
  return product;
}

// For the log.
std::string emulated_name(const Product& product) {
  return std::string(product.name) + (product.name == "fp32" ? " (no fast bf16 here)" : "");
}

// Why no narrow product serves, of one that could multiply the operands; empty if it does.
std::string obstacle(const Product& product, const at::Device& device, std::span<const std::int64_t> sides) {
  if (!product.available(device)) return "no FP8 tensor cores here";
  const bool fits =
      std::all_of(sides.begin(), sides.end(), [&](std::int64_t side) { return side % product.side_multiple == 0; });
  return fits ? "" : "FP8 tensor cores need sides that are multiples of " + std::to_string(product.side_multiple);
}

ProductShape shape_of(const QuantizedTensor& a, const QuantizedTensor& b, at::ScalarType out, Accumulate accumulate) {
  return {.m = a.values.size(0),
          .n = b.values.size(0),
          .k = std::min(a.values.size(1), b.values.size(1)),
          .out = out,
          .accumulate = accumulate};
}

void run(const Product& product, const ProductShape& shape, const QuantizedTensor& a, const QuantizedTensor& b,
         at::Tensor& out) {
  for (const QuantizedTensor* operand : {&a, &b}) {
    if (operand->form == product.form) continue;
    throw InputError(describe(product.name, shape) + ": an operand is " + std::string(name_of(operand->form)) +
                     ", expected " + std::string(name_of(product.form)));
  }
  const c10::DeviceGuard guard(out.device());
  product.run(shape, a, b, out);
}

}  // namespace

std::string describe(std::string_view product, const ProductShape& shape) {
  const auto number = [](std::int64_t n) { return std::to_string(n); };
  return std::string(product) + " product " + (shape.groups == 1 ? "" : number(shape.groups) + " x ") + "[" +
         number(shape.m) + ", " + number(shape.k) + "] x [" + number(shape.k) + ", " + number(shape.n) + "] in " +
         (shape.out == at::kFloat ? "FP32" : "BF16") + (shape.accumulate == Accumulate::kAdd ? ", added" : "");
}

std::span<const Product> products() { return kProducts; }

const Product& find_product(std::string_view name) {
  std::vector<std::string_view> names;
  for (const Product& product : kProducts) {
    if (product.name == name) return product;
    names.push_back(product.name);
  }
  throw InputError("unknown product '" + std::string(name) + "'" + name_hint(name, names));
}

const Product& cpu_product(std::span<const std::string_view> features) {
  const bool fast =
      std::find_first_of(features.begin(), features.end(), kFastBf16.begin(), kFastBf16.end()) != features.end();
  return find_product(fast ? "bf16" : "fp32");
}

const Product& emulated_product(const at::Device& device) {
  return device.is_cpu() ? *on_cpu().load() : find_product("bf16");
}

ForcedCpuProduct::ForcedCpuProduct(const Product& product) : before_(on_cpu().exchange(&product)) {}

ForcedCpuProduct::~ForcedCpuProduct() { on_cpu() = before_; }

ChosenProducts choose_products(const Recipe& recipe, const at::Device& device, std::span<const std::int64_t> sides,
                               ProductChoice choice) {
  const Product& emulated = emulated_product(device);
  ChosenProducts result;
  result.gemm.fill(&emulated);
  result.description = emulated_name(emulated);
  if (!recipe.quantized()) return result;
  result.description = "emulated: " + result.description;
  if (choice == ProductChoice::kEmulated) return result;
  std::string narrow;  // the GEMMs that have one
  bool all = true;
  std::string why;
  for (std::size_t g = 0; g < recipe.gemm.size(); ++g) {
    const GemmRecipe& gemm = recipe.gemm[g];
    const auto first = std::find_if(kProducts.begin(), kProducts.end(), [&](const Product& product) {
      return product.form != Form::kBf16 && product.takes(gemm.operand[0], gemm.operand[1]);
    });
    if (first == kProducts.end()) {
      all = false;
      continue;
    }
    if (why = obstacle(*first, device, sides); !why.empty()) {
      result.description += " (" + why + ")";
      return result;
    }
    result.gemm[g] = &*first;
    narrow += (narrow.empty() ? std::string(first->name) + ": " : ", ") + std::string(gemm.name);
  }
  if (narrow.empty()) return result;
  result.description = all ? narrow.substr(0, narrow.find(':')) : narrow + "; the rest " + result.description;
  return result;
}

at::Tensor multiply(const Product& product, const QuantizedTensor& a, const QuantizedTensor& b, at::ScalarType type) {
  const ProductShape shape = shape_of(a, b, type, Accumulate::kOverwrite);
  at::Tensor out = at::empty({shape.m, shape.n}, a.values.options().dtype(type));
  run(product, shape, a, b, out);
  return out;
}

void multiply_into(at::Tensor& out, const Product& product, const QuantizedTensor& a, const QuantizedTensor& b,
                   Accumulate accumulate) {
  run(product, shape_of(a, b, out.scalar_type(), accumulate), a, b, out);
}

at::Tensor matmul_transposed(const at::Tensor& a, const at::Tensor& b) {
  return multiply(emulated_product(a.device()), QuantizedTensor::bf16(a), QuantizedTensor::bf16(b));
}

}  // namespace ufp4
