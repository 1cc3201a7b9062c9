#include <ATen/ops/clone.h>
#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAStream.h>

#include <algorithm>
#include <iterator>
#include <string>

#include "cuda/cross_entropy.h"
#include "cuda/layers.h"
#include "cuda/rotary.h"
#include "torch/bf16_rows.h"
#include "torch/cuda_windows.h"
#include "torch/device_kernels.h"
#include "ufp4/error.h"

namespace ufp4::cuda_kernels {
namespace {

cuda::Stream stream() { return c10::cuda::getCurrentCUDAStream().stream(); }

cuda::RmsNorm norm_of(const at::Tensor& x, const at::Tensor& rstd, const at::Tensor& weight) {
  return {rows_of(x), x.size(-1), bf16_input(x), weight.const_data_ptr<float>(), rstd.const_data_ptr<float>()};
}

cuda::Swiglu swiglu_of(const at::Tensor& h) { return {rows_of(h), h.size(-1) / 2, bf16_input(h)}; }

cuda::SwigluBackward swiglu_backward_of(const at::Tensor& dy, const at::Tensor& h) {
  return {rows_of(h), h.size(-1) / 2, bf16_input(h), bf16_input(dy)};
}

cuda::Rounded rounded_of(const at::Tensor& matrix) {
  return {matrix.size(0), matrix.size(1), matrix.const_data_ptr<float>()};
}

void rms_statistics(const at::Tensor& x, const at::Tensor& branch, double epsilon, const at::Tensor& sum,
                    const at::Tensor& rstd) {
  cuda::rms_statistics({rows_of(x), x.size(-1), bf16_input(x), bf16_input(branch),
                        branch.defined() ? bf16_output(sum) : nullptr, rstd.mutable_data_ptr<float>(), epsilon},
                       stream());
}

void rms_norm(const RmsStatistics& of, const at::Tensor& weight, const at::Tensor& y) {
  cuda::compute(norm_of(of.x, of.rstd, weight), bf16_output(y), stream());
}

void rms_norm_backward(const at::Tensor& dy, const RmsStatistics& of, const at::Tensor& weight,
                       const at::Tensor& residual, const RmsNormGradients& result) {
  const std::int64_t rows = rows_of(of.x);
  const std::int64_t columns = of.x.size(-1);
  const at::Tensor workspace = at::empty({cuda::rms_norm_backward_workspace(rows, columns)}, weight.options());
  cuda::rms_norm_backward(
      {rows, columns, bf16_input(of.x), weight.const_data_ptr<float>(), of.rstd.const_data_ptr<float>(), bf16_input(dy),
       bf16_input(residual), bf16_output(result.dx), result.dweight.mutable_data_ptr<float>(),
       workspace.mutable_data_ptr<float>()},
      stream());
}

void swiglu(const at::Tensor& h, const at::Tensor& y) { cuda::compute(swiglu_of(h), bf16_output(y), stream()); }

void swiglu_backward(const at::Tensor& dy, const at::Tensor& h, const at::Tensor& dh) {
  cuda::compute(swiglu_backward_of(dy, h), bf16_output(dh), stream());
}

cuda::RotaryPart part_of(const at::Tensor& heads, bool turned) {
  return {bf16_input(heads), heads.stride(0), heads.stride(1), heads.stride(2), heads.size(2), turned};
}

// The heads, copied if kernels cannot read them as they lie.
at::Tensor readable_heads(const at::Tensor& heads) {
  const cuda::RotaryPart part = part_of(heads, false);
  const bool readable = heads.stride(3) == 1 && part.batch_stride % 8 == 0 && cuda::readable(part);
  return readable ? heads : heads.clone(at::MemoryFormat::Contiguous);
}

void rotary(const std::vector<RotaryHeads>& parts, const at::Tensor& table, float direction, const at::Tensor& to) {
  cuda::RotaryArgs args;
  if (parts.size() > std::size(args.parts)) {
    throw InputError("rotary embedding: " + std::to_string(parts.size()) + " parts, expected at most " +
                     std::to_string(std::size(args.parts)));
  }
  std::vector<at::Tensor> read;  // given back in the order of the stream
  args.part_count = 0;
  for (const auto& [heads, turned] : parts) {
    args.parts[args.part_count++] = part_of(read.emplace_back(readable_heads(heads)), turned);
  }
  args.to = bf16_output(to);
  args.all_heads = to.size(2);
  args.table = table.const_data_ptr<float>();
  args.direction = direction;
  args.batch = to.size(0);
  args.tokens = to.size(1);
  args.size = to.size(3);
  cuda::rotary(args, stream());
}

void cross_entropy(const at::Tensor& logits, const at::Tensor& targets, const at::Tensor& losses, bool gradient,
                   double scale) {
  cuda::cross_entropy({bf16_output(logits), targets.const_data_ptr<std::int64_t>(), losses.mutable_data_ptr<float>(),
                       logits.size(0), logits.size(1), gradient, static_cast<float>(scale)},
                      stream());
}

cuda::RotaryBackward rotary_backward_of(const Source& source) {
  const at::Tensor& first = source.input();
  cuda::RotaryBackward result{source.rows(), source.columns(), {}, source.weight().const_data_ptr<float>(),
                              first.size(1), first.size(3)};
  for (std::size_t i = 0; i < source.heads().size(); ++i) {
    result.parts[i] = part_of(source.heads()[i].heads, source.heads()[i].turned);
  }
  return result;
}

// Whether there is a kernel for the source as it lies in memory.
bool has_kernel(const Source& source) {
  switch (source.kind()) {
    case Source::Kind::kMatrix: return false;
    case Source::Kind::kRounded: return source.input().is_contiguous() && cuda::layers_take(rounded_of(source.input()));
    case Source::Kind::kRotaryBackward: {
      const bool three = source.heads().size() <= 3;
      const bool rows = std::all_of(source.heads().begin(), source.heads().end(),
                                    [](const RotaryHeads& part) { return part.heads.stride(3) == 1; });
      return three && rows && cuda::layers_take(rotary_backward_of(source));
    }
    case Source::Kind::kRmsNorm:
    case Source::Kind::kSwiglu:
    case Source::Kind::kSwigluBackward: break;
  }
  return true;
}

// f(layer) of the cuda::.. struct that the source stands for; not for Source::Kind::kMatrix.
template <typename F>
void with_layer(const Source& source, const F& f) {
  switch (source.kind()) {
    case Source::Kind::kMatrix: break;
    case Source::Kind::kRmsNorm: return f(norm_of(source.input(), source.rstd(), source.weight()));
    case Source::Kind::kSwiglu: return f(swiglu_of(source.input()));
    case Source::Kind::kSwigluBackward: return f(swiglu_backward_of(source.dy(), source.input()));
    case Source::Kind::kRotaryBackward: return f(rotary_backward_of(source));
    case Source::Kind::kRounded: return f(rounded_of(source.input()));
  }
}

}  // namespace

bool takes_source(const Source& source, const QuantizeTask& task) {
  return has_kernel(source) && cuda::layers_take(task.spec, task.place.axis);
}

void quantize_source(const Source& source, std::span<const DeviceTask> tasks, std::span<const Window> windows) {
  with_layer(source, [&](const auto& layer) {
    quantize_in_windows(
        source.rows(), source.columns(), tasks, windows,
        {DType::kBF16, [&](std::span<const cuda::AmaxTask> amax) { cuda::raise_outer_amax(layer, amax, stream()); },
         [&](std::span<const DeviceTask> known) { cuda::quantize(layer, known, stream()); }});
  });
}

const LayerKernels kLayers{{cuda::kLayerWidthMultiple, cuda::kHeadMultiple, cuda::kLargestNorm},
                           rms_statistics,
                           rms_norm,
                           rms_norm_backward,
                           swiglu,
                           swiglu_backward,
                           rotary,
                           cross_entropy};

}  // namespace ufp4::cuda_kernels
