#include <ATen/cuda/CUDAContextLight.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAStream.h>
#include <cublasLt.h>

#include <array>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>
#include <type_traits>

#include "torch/products.h"
#include "ufp4/error.h"

namespace ufp4::cuda_fp8 {
namespace {

// m, n, k, leading dimensions of a and b, FP32 output, added to it, device.
using Problem = std::tuple<std::int64_t, std::int64_t, std::int64_t, std::int64_t, std::int64_t, bool, bool, int>;

std::string text(const Problem& p) {
  return "[" + std::to_string(std::get<0>(p)) + ", " + std::to_string(std::get<2>(p)) + "] x [" +
         std::to_string(std::get<2>(p)) + ", " + std::to_string(std::get<1>(p)) + "]";
}

void check(cublasStatus_t status, const char* what, const Problem& problem) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw RunError(std::string("fp8 product ") + text(problem) + ": cuBLASLt: " + what + ": " +
                 cublasLtGetStatusString(status));
}

template <auto kDestroy>
struct Destroy {
  template <typename T>
  void operator()(T* object) const {
    kDestroy(object);
  }
};
template <typename Pointer, auto kDestroy>
using Owned = std::unique_ptr<std::remove_pointer_t<Pointer>, Destroy<kDestroy>>;
using Layout = Owned<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;
using MatmulDescription = Owned<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>;
using Preference = Owned<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;

// Column-major, as all of cuBLASLt's.
Layout make_layout(cudaDataType_t type, std::int64_t rows, std::int64_t columns, std::int64_t leading,
                   const Problem& problem) {
  cublasLtMatrixLayout_t layout = nullptr;
  check(cublasLtMatrixLayoutCreate(&layout, type, static_cast<std::uint64_t>(rows), static_cast<std::uint64_t>(columns),
                                   leading),
        "matrix layout", problem);
  return Layout(layout);
}

// The transpose of the first matrix times the second, with their scales.
MatmulDescription make_description(const void* first_scale, const void* second_scale, const Problem& problem) {
  cublasLtMatmulDesc_t created = nullptr;
  check(cublasLtMatmulDescCreate(&created, CUBLAS_COMPUTE_32F, CUDA_R_32F), "product", problem);
  MatmulDescription product(created);
  const auto set = [&](cublasLtMatmulDescAttributes_t attribute, const auto& value) {
    check(cublasLtMatmulDescSetAttribute(created, attribute, &value, sizeof value), "attribute", problem);
  };
  set(CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T);
  set(CUBLASLT_MATMUL_DESC_TRANSB, CUBLAS_OP_N);
  set(CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, first_scale);
  set(CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, second_scale);
  set(CUBLASLT_MATMUL_DESC_FAST_ACCUM, std::int8_t{0});
  return product;
}

Preference make_preference(std::size_t workspace, const Problem& problem) {
  cublasLtMatmulPreference_t created = nullptr;
  check(cublasLtMatmulPreferenceCreate(&created), "preference", problem);
  Preference preference(created);
  check(cublasLtMatmulPreferenceSetAttribute(created, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace,
                                             sizeof workspace),
        "workspace", problem);
  return preference;
}

// cuBLASLt's first choice, which depends on the problem alone; asked for once.
cublasLtMatmulAlgo_t algorithm(const Problem& problem, cublasLtHandle_t handle, const MatmulDescription& product,
                               const Layout& b, const Layout& a, const Layout& out, std::size_t workspace) {
  static std::mutex mutex;
  static std::map<Problem, cublasLtMatmulAlgo_t> known;
  const std::lock_guard lock(mutex);
  if (const auto found = known.find(problem); found != known.end()) return found->second;
  const Preference preference = make_preference(workspace, problem);
  cublasLtMatmulHeuristicResult_t result{};
  int count = 0;
  check(cublasLtMatmulAlgoGetHeuristic(handle, product.get(), b.get(), a.get(), out.get(), out.get(), preference.get(),
                                       1, &result, &count),
        "heuristic", problem);
  if (count == 0) throw RunError("fp8 product " + text(problem) + ": cuBLASLt has no algorithm for it");
  return known.emplace(problem, result.algo).first->second;
}

void check_operand(const char* name, const QuantizedTensor& operand) {
  const at::Tensor& values = operand.values;
  if (values.scalar_type() != at::kFloat8_e4m3fn || values.dim() != 2 || values.stride(1) != 1 ||
      values.size(1) % 16 != 0) {
    throw InputError(std::string("fp8 product: operand ") + name + " is " + c10::toString(values.scalar_type()) + " " +
                     c10::str(values.sizes()) +
                     ", expected Float8_e4m3fn, dense, with a contraction axis that is a multiple of 16");
  }
}

}  // namespace

bool available(const at::Device& device) {
  if (!device.is_cuda() || device.index() >= c10::cuda::device_count()) return false;
  const cudaDeviceProp* properties = at::cuda::getDeviceProperties(device.index());
  return properties->major * 10 + properties->minor >= 89;
}

void run(const ProductShape& shape, const QuantizedTensor& a, const QuantizedTensor& b, at::Tensor& out) {
  check_operand("a", a);
  check_operand("b", b);
  const auto [m, n, k] = std::array{shape.m, shape.n, shape.k};
  if (n % 16 != 0) throw InputError("fp8 product: " + std::to_string(n) + " rows of b, expected a multiple of 16");
  if (m == 0 || n == 0) return;
  const bool f32 = shape.out == at::kFloat;
  const bool add = shape.accumulate == Accumulate::kAdd;
  const Problem problem{m, n, k, a.values.stride(0), b.values.stride(0), f32, add, out.device().index()};
  // cuBLASLt's matrices are column-major: it makes the transpose of `out`, b times the transpose of a.
  const MatmulDescription product =
      make_description(b.outer_scales.const_data_ptr(), a.outer_scales.const_data_ptr(), problem);
  const Layout first = make_layout(CUDA_R_8F_E4M3, k, n, b.values.stride(0), problem);
  const Layout second = make_layout(CUDA_R_8F_E4M3, k, m, a.values.stride(0), problem);
  const Layout result = make_layout(f32 ? CUDA_R_32F : CUDA_R_16BF, n, m, out.stride(0), problem);
  const auto handle = at::cuda::getCurrentCUDABlasLtHandle();
  const std::size_t workspace = at::cuda::getCUDABlasLtWorkspaceSize();
  const cublasLtMatmulAlgo_t algo = algorithm(problem, handle, product, first, second, result, workspace);
  const float alpha = 1;
  const float beta = add ? 1 : 0;
  check(
      cublasLtMatmul(handle, product.get(), &alpha, b.values.const_data_ptr(), first.get(), a.values.const_data_ptr(),
                     second.get(), &beta, out.const_data_ptr(), result.get(), out.mutable_data_ptr(), result.get(),
                     &algo, at::cuda::getCUDABlasLtWorkspace(), workspace, c10::cuda::getCurrentCUDAStream().stream()),
      "product", problem);
}

}  // namespace ufp4::cuda_fp8
