// Named implementations of the same operations. All give the same bits; they differ in speed and in what they need.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ufp4/format.h"  // IWYU pragma: export
#include "ufp4/quantize.h"

namespace ufp4 {

// One implementation. Backends live as long as the program; their methods may be called from several threads.
class Backend {
 public:
  virtual ~Backend() = default;

  // "scalar", or the name of an instruction set: "avx3_zen4", "avx2", ..
  virtual std::string_view name() const = 0;
  virtual std::string_view description() const = 0;
  // The device that computes, as its maker calls it; empty where this machine's processor does, or none is usable.
  virtual std::string_view device() const { return {}; }
  // False if this machine lacks what the backend needs; calling it is then an error.
  virtual bool available() const = 0;

  // Quantizes `in` once for every task; a row task and a column task together read the matrix once. Runs on the calling
  // thread. Throws InputError for an invalid spec, view or destination.
  void quantize(const ConstMatrix& in, std::span<const QuantizeTask> tasks) const;

  // The part of that work that some rows of the stored matrix stand for, written where it belongs in the same
  // destinations: so several threads share a matrix that each of them reads a part of, once. A range begins at a whole
  // block and transform of every column task and ends at one or at the end of the matrix. outer_scales are written by
  // the part with row 0.
  void quantize_rows(const ConstMatrix& in, std::span<const QuantizeTask> tasks, RowRange rows) const;

  // The largest magnitude of the operand after the transform, over its blocks without NaN or infinity (0 if there is
  // none): what QuantizeTask::outer_amax takes for a scale of the tensor when a matrix is quantized in parts.
  float tensor_amax(const ConstMatrix& in, const OperandSpec& spec, const Place& place) const;

  // The same for whatever shares a second-level scale: raises each of the [outer_shape] values of `amax`, which begin
  // at 0, to what some rows of the stored matrix hold (a range as above). QuantizeTask::outer_amax takes the result.
  void raise_outer_amax(const ConstMatrix& in, const OperandSpec& spec, const Place& place, RowRange rows,
                        float* amax) const;

  // Writes level * scale * second-level scale of every element to `out`, dense [rows, columns], kF32 or kBF16.
  void dequantize(const ConstQuantized& in, void* out, DType out_dtype) const;

  // Whether there are kernels for the format; the reference, much slower, does the others.
  virtual bool has_kernels(const BlockFormat& format) const { return format.rule == ScaleRule::kAmax; }

 protected:
  // The arguments have been checked; no dimension is zero. The magnitudes that second-level scales follow from are in
  // the tasks; dequantization gets decoded scales.
  virtual void run_quantize(const ConstMatrix& in, std::span<const QuantizeTask> tasks, RowRange rows) const = 0;
  virtual void run_dequantize(const ConstQuantized& in, void* out, DType out_dtype) const = 0;
  virtual void run_outer_amax(const ConstMatrix& in, const OperandSpec& spec, const Place& place, RowRange rows,
                              float* amax) const;
};

// Every backend that was built, the preferred first, whether or not this machine can run it.
std::span<const Backend* const> backends();

// The backend called `name`. Throws InputError that lists the known names, or says why it cannot run here.
const Backend& find_backend(std::string_view name);

// The first available one.
const Backend& default_backend();

}  // namespace ufp4
