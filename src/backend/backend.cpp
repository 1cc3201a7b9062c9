#include "ufp4/backend.h"

#include <algorithm>
#include <string>

#include "numerics/arguments.h"
#include "numerics/near_name.h"
#include "numerics/packed_scales.h"
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

void check_rows(const ConstMatrix& in, const OperandSpec& spec, Axis axis, RowRange rows) {
  const std::int64_t unit = axis == Axis::kRow ? 1 : std::max(spec.block_size(), spec.hadamard.size);
  const bool ordered = 0 <= rows.first && rows.first <= rows.last && rows.last <= in.rows;
  if (ordered && rows.first % unit == 0 && (rows.last % unit == 0 || rows.last == in.rows)) return;
  throw InputError("quantize: rows " + std::to_string(rows.first) + " to " + std::to_string(rows.last) +
                   " are no part of a matrix of " + std::to_string(in.rows) + " rows in whole blocks of " +
                   std::to_string(unit));
}

// The operand with its scales decoded, and the memory that they are in.
struct Decoded {
  ConstQuantized operand;
  std::vector<float> scales;
  std::vector<std::uint8_t> selectors;
};

Decoded decode_scales(const ConstQuantized& in) {
  const int block = in.block == 0 ? in.format->block : in.block;
  Decoded result{in, {}, {}};
  const QuantizedShape shape{in.rows, in.columns, in.columns, in.columns / block};
  const auto blocks = static_cast<std::size_t>(shape.rows * shape.scales_per_row);
  result.scales.resize(blocks);
  if (in.format->selector_block != 0) {
    result.selectors.resize(blocks * static_cast<std::size_t>(block / in.format->selector_block));
  }
  unpack_scales(*in.format, in.packed_scales, blocks, result.scales.data(), result.selectors.data());
  result.operand.scales = result.scales.data();
  result.operand.selectors = result.selectors.data();
  if (in.format->outer_stays_apart(in.outer)) return result;
  const OuterShape outer = outer_shape(shape, in.outer);
  for (std::size_t i = 0; i < blocks; ++i) {
    const auto number = static_cast<std::int64_t>(i);
    result.scales[i] *=
        in.outer_scales[outer.index(number / shape.scales_per_row, number % shape.scales_per_row * block)];
  }
  return result;
}

// Tasks that have the magnitudes of the whole matrix, and the memory that these are in.
struct KnownTasks {
  std::vector<QuantizeTask> tasks;
  std::vector<std::vector<float>> amax;
};

}  // namespace

void Backend::quantize(const ConstMatrix& in, std::span<const QuantizeTask> tasks) const {
  quantize_rows(in, tasks, {0, in.rows});
}

void Backend::quantize_rows(const ConstMatrix& in, std::span<const QuantizeTask> tasks, RowRange rows) const {
  const bool empty = in.rows == 0 || in.columns == 0;
  for (const QuantizeTask& task : tasks) {
    quantized_shape(in.rows, in.columns, task.spec, task.place.axis);  // checks the spec
    check_output(task);
    check_rows(in, task.spec, task.place.axis, rows);
    const bool one = task.spec.outer_each() == OuterScale::kTensor;
    if (empty && task.out.outer_scales != nullptr && one) *task.out.outer_scales = 1;
  }
  if (empty || tasks.empty() || rows.first == rows.last) return;
  check_matrix(in);
  KnownTasks own;
  for (const QuantizeTask& task : tasks) {
    // Rounding between transform and quantization is there to compare with a peer: the reference's speed will do.
    if (!has_kernels(*task.spec.format) || task.spec.hadamard.round_to_bf16) {
      reference::quantize(in, task, rows);
      continue;
    }
    own.tasks.push_back(task);
    if (!task.outer_amax_unknown()) continue;
    const QuantizedShape shape = quantized_shape(in.rows, in.columns, task.spec, task.place.axis);
    const OuterShape outer = outer_shape(shape, task.spec.outer_each());
    std::vector<float>& amax = own.amax.emplace_back(static_cast<std::size_t>(outer.rows * outer.columns), 0.0F);
    raise_outer_amax(in, task.spec, task.place, {0, in.rows}, amax.data());
    own.tasks.back().outer_amax = amax.data();
  }
  if (!own.tasks.empty()) run_quantize(in, own.tasks, rows);
}

void Backend::run_outer_amax(const ConstMatrix& in, const OperandSpec& spec, const Place& place, RowRange rows,
                             float* amax) const {
  reference::raise_outer_amax(in, spec, place, rows, amax);
}

void Backend::raise_outer_amax(const ConstMatrix& in, const OperandSpec& spec, const Place& place, RowRange rows,
                               float* amax) const {
  quantized_shape(in.rows, in.columns, spec, place.axis);  // checks the spec
  check_rows(in, spec, place.axis, rows);
  if (in.columns == 0 || rows.first == rows.last) return;
  check_matrix(in);
  run_outer_amax(in, spec, place, rows, amax);
}

float Backend::tensor_amax(const ConstMatrix& in, const OperandSpec& spec, const Place& place) const {
  OperandSpec whole = spec;
  whole.outer.each = OuterScale::kTensor;
  float amax = 0;
  raise_outer_amax(in, whole, place, {0, in.rows}, &amax);
  return amax;
}

void Backend::dequantize(const ConstQuantized& in, void* out, DType out_dtype) const {
  check_dequantize(in, out, out_dtype);
  if (in.rows == 0 || in.columns == 0) return;
  Decoded decoded = in.packed_scales != nullptr ? decode_scales(in) : Decoded{in, {}, {}};
  if (!in.format->outer_stays_apart(in.outer)) decoded.operand.outer_scales = nullptr;  // they are in the scales
  if (has_kernels(*in.format)) {
    run_dequantize(decoded.operand, out, out_dtype);
  } else {
    reference::dequantize(decoded.operand, out, out_dtype);
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
                         ") cannot run on this machine; '" + std::string(default_backend().name()) + "' can");
      }
      return *backend;
    }
    names.push_back(backend->name());
  }
  if (name == "cuda") {
    throw InputError("backend 'cuda': this build has no CUDA kernels (configure with -DUFP4_CUDA=ON); '" +
                     std::string(default_backend().name()) + "' is the fastest of this CPU");
  }
  throw InputError("unknown backend '" + std::string(name) + "'" + name_hint(name, names));
}

const Backend& default_backend() {
  static const Backend* const chosen = [] {
    for (const Backend* backend : backends()) {
      if (backend->available()) return backend;
    }
    throw RunError("no backend can run on this machine");  // the scalar one always can
  }();
  return *chosen;
}

}  // namespace ufp4
