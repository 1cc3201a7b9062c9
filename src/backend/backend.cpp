#include "ufp4/backend.h"

#include <algorithm>
#include <string>

#include "numerics/near_name.h"
#include "numerics/reference.h"
#include "ufp4/error.h"
#ifdef UFP4_HAVE_CPU
#include "cpu/backends.h"
#endif
#ifdef UFP4_HAVE_CUDA
#include "cuda/backend.h"
#endif

namespace ufp4 {
namespace {

class ScalarBackend final : public Backend {
 public:
  std::string_view name() const override { return "scalar"; }
  std::string_view description() const override { return "the reference, one element at a time"; }
  bool available() const override { return true; }

 protected:
  void run_quantize(const ConstMatrix& in, std::span<const QuantizeTask> tasks) const override {
    for (const QuantizeTask& task : tasks) reference::quantize(in, task);
  }
  void run_dequantize(const ConstQuantized& in, void* out, DType out_dtype) const override {
    reference::dequantize(in, out, out_dtype);
  }
  bool has_kernels(const BlockFormat&) const override { return true; }
};

std::vector<const Backend*> make_backends() {
  static const ScalarBackend scalar;
  std::vector<const Backend*> list;
#ifdef UFP4_HAVE_CPU
  for (const Backend* backend : cpu::backends()) list.push_back(backend);
#endif
  list.push_back(&scalar);
#ifdef UFP4_HAVE_CUDA
  list.push_back(&cuda::backend());  // last: the way to the device and back takes longer than the work on a CPU
#endif
  return list;
}

std::string shape_text(std::int64_t rows, std::int64_t columns) {
  return "[" + std::to_string(rows) + ", " + std::to_string(columns) + "]";
}

}  // namespace

void Backend::quantize(const ConstMatrix& in, std::span<const QuantizeTask> tasks) const {
  bool empty = in.rows == 0 || in.columns == 0;
  for (const QuantizeTask& task : tasks) {
    quantized_shape(in.rows, in.columns, task.spec);  // checks the spec
    if (task.out.dequantized != nullptr && task.out.dequantized_dtype == DType::kF16) {
      throw InputError("quantize: dequantized output is F32 or BF16, not F16");
    }
    if (empty && task.out.global_scale != nullptr) *task.out.global_scale = 1;
  }
  if (empty || tasks.empty()) return;
  if (in.data == nullptr) throw InputError("quantize: matrix " + shape_text(in.rows, in.columns) + " has no data");
  if (in.row_stride < in.columns) {
    throw InputError("quantize: row stride " + std::to_string(in.row_stride) + " is less than the " +
                     std::to_string(in.columns) + " columns");
  }
  std::vector<QuantizeTask> own;
  for (const QuantizeTask& task : tasks) {
    if (has_kernels(*task.spec.format)) {
      own.push_back(task);
    } else {
      reference::quantize(in, task);
    }
  }
  if (!own.empty()) run_quantize(in, own);
}

float Backend::tensor_amax(const ConstMatrix& in, const QuantizeSpec& spec) const {
  quantized_shape(in.rows, in.columns, spec);  // checks the spec
  return in.rows == 0 || in.columns == 0 ? 0 : reference::tensor_amax(in, spec);
}

void Backend::dequantize(const ConstQuantized& in, void* out, DType out_dtype) const {
  if (in.format == nullptr) throw InputError("dequantize: no format given");
  if (out_dtype == DType::kF16) throw InputError("dequantize: output is F32 or BF16, not F16");
  const int block = in.block == 0 ? in.format->block : in.block;
  if (std::find(kBlockSizes.begin(), kBlockSizes.end(), block) == kBlockSizes.end()) {
    throw InputError("dequantize: block size " + std::to_string(block) + " is not one of 16, 32, 64, 128");
  }
  if (in.rows < 0 || in.columns < 0 || in.columns % block != 0) {
    throw InputError("dequantize: " + shape_text(in.rows, in.columns) + " is no whole number of blocks of " +
                     std::to_string(block));
  }
  if (in.rows == 0 || in.columns == 0) return;
  if (in.codes == nullptr || in.scales == nullptr || out == nullptr)
    throw InputError("dequantize: an array is missing");
  if (in.format->selector_block != 0 && in.selectors == nullptr) {
    throw InputError("dequantize: format '" + std::string(in.format->name) + "' needs its selectors");
  }
  if (has_kernels(*in.format)) {
    run_dequantize(in, out, out_dtype);
  } else {
    reference::dequantize(in, out, out_dtype);
  }
}

std::span<const Backend* const> backends() {
  static const std::vector<const Backend*> list = make_backends();
  return list;
}

const Backend& find_backend(std::string_view name) {
  std::vector<std::string_view> names;
  for (const Backend* backend : backends()) {
    if (backend->name() == name) {
      if (!backend->available()) {
        throw InputError("backend '" + std::string(name) + "' (" + std::string(backend->description()) +
                         ") cannot run on this machine");
      }
      return *backend;
    }
    names.push_back(backend->name());
  }
  throw InputError("unknown backend '" + std::string(name) + "'" + name_hint(name, names));
}

const Backend& default_backend() {
  static const Backend& chosen = []() -> const Backend& {
    for (const Backend* backend : backends()) {
      if (backend->available()) return *backend;
    }
    throw RunError("no backend can run on this machine");  // the scalar one always can
  }();
  return chosen;
}

}  // namespace ufp4
