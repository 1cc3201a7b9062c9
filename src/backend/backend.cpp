#include "ufp4/backend.h"

#include <algorithm>
#include <string>

#include "numerics/arguments.h"
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
  void run_quantize(const ConstMatrix& in, std::span<const QuantizeTask> tasks, RowRange rows) const override {
    for (const QuantizeTask& task : tasks) reference::quantize(in, task, rows);
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

void check_rows(const ConstMatrix& in, const QuantizeSpec& spec, RowRange rows) {
  const std::int64_t unit = spec.axis == Axis::kRow ? 1 : std::max(spec.block_size(), spec.hadamard.size);
  const bool ordered = 0 <= rows.first && rows.first <= rows.last && rows.last <= in.rows;
  if (ordered && rows.first % unit == 0 && (rows.last % unit == 0 || rows.last == in.rows)) return;
  throw InputError("quantize: rows " + std::to_string(rows.first) + " to " + std::to_string(rows.last) +
                   " are no part of a matrix of " + std::to_string(in.rows) + " rows in whole blocks of " +
                   std::to_string(unit));
}

}  // namespace

void Backend::quantize(const ConstMatrix& in, std::span<const QuantizeTask> tasks) const {
  quantize_rows(in, tasks, {0, in.rows});
}

void Backend::quantize_rows(const ConstMatrix& in, std::span<const QuantizeTask> tasks, RowRange rows) const {
  const bool empty = in.rows == 0 || in.columns == 0;
  for (const QuantizeTask& task : tasks) {
    quantized_shape(in.rows, in.columns, task.spec);  // checks the spec
    check_output(task.out);
    check_rows(in, task.spec, rows);
    if (empty && task.out.global_scale != nullptr) *task.out.global_scale = 1;
  }
  if (empty || tasks.empty() || rows.first == rows.last) return;
  check_matrix(in);
  std::vector<QuantizeTask> own;
  for (const QuantizeTask& task : tasks) {
    if (has_kernels(*task.spec.format)) {
      own.push_back(task);
    } else {
      reference::quantize(in, task, rows);
    }
  }
  if (!own.empty()) run_quantize(in, own, rows);
}

float Backend::tensor_amax(const ConstMatrix& in, const QuantizeSpec& spec) const {
  quantized_shape(in.rows, in.columns, spec);  // checks the spec
  return in.rows == 0 || in.columns == 0 ? 0 : reference::tensor_amax(in, spec);
}

void Backend::dequantize(const ConstQuantized& in, void* out, DType out_dtype) const {
  check_dequantize(in, out, out_dtype);
  if (in.rows == 0 || in.columns == 0) return;
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
