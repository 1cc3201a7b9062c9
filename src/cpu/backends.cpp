#include "cpu/backends.h"

#include <algorithm>
#include <cctype>
#include <memory>
#include <string>
#include <vector>

#include "cpu/job.h"

namespace ufp4::cpu {
namespace {

class HighwayBackend final : public Backend {
 public:
  explicit HighwayBackend(const Kernels& kernels) : kernels_(kernels), name_(kernels.name) {
    std::transform(name_.begin(), name_.end(), name_.begin(),
                   [](char c) { return static_cast<char>(std::tolower(static_cast<unsigned char>(c))); });
    description_ = "SIMD through Highway, " + std::to_string(32 * kernels.lanes) + " bits wide";
  }

  std::string_view name() const override { return name_; }
  std::string_view description() const override { return description_; }
  bool available() const override { return is_supported(kernels_); }

 protected:
  void run_quantize(const ConstMatrix& in, std::span<const QuantizeTask> tasks, RowRange rows) const override {
    cpu::run_quantize(kernels_, in, tasks, rows);
  }

  void run_outer_amax(const ConstMatrix& in, const OperandSpec& spec, const Place& place, RowRange rows,
                      float* amax) const override {
    cpu::run_outer_amax(kernels_, in, spec, place, rows, amax);
  }

  bool has_kernels(const BlockFormat& format) const override { return cpu::has_kernels(format); }

  void run_dequantize(const ConstQuantized& in, void* out, DType out_dtype) const override {
    const int block = in.block == 0 ? in.format->block : in.block;
    Expansion expansion = expansion_of(*in.format, block);
    expansion.codes = in.codes;
    expansion.scales = in.scales;
    expansion.selectors = in.selectors;
    expansion.out_dtype = out_dtype;
    const OuterShape outer = outer_shape({in.rows, in.columns, in.columns, in.columns / block}, in.outer);
    // Blocks that follow one another and share a second-level scale.
    const std::int64_t total = in.rows * in.columns;
    const bool one = in.outer_scales == nullptr || in.outer == OuterScale::kTensor;
    for (std::int64_t first = 0; first < total;) {
      const std::int64_t column = first % in.columns;
      const std::int64_t last =
          one ? total : first + std::min(outer.columns_each - column % outer.columns_each, in.columns - column);
      expansion.codes = in.codes + first / 2;
      expansion.scales = in.scales + first / block;
      const std::int64_t each = in.format->selector_block;
      expansion.selectors = each == 0 ? nullptr : in.selectors + first / each;
      expansion.outer_scale =
          in.outer_scales == nullptr ? 1 : in.outer_scales[one ? 0 : outer.index(first / in.columns, column)];
      expansion.blocks = static_cast<std::size_t>((last - first) / block);
      expansion.out = static_cast<std::uint8_t*>(out) + static_cast<std::size_t>(first) * size_of(out_dtype);
      kernels_.dequantize(expansion);
      first = last;
    }
  }

 private:
  const Kernels& kernels_;
  std::string name_;
  std::string description_;
};

}  // namespace

std::span<const Backend* const> backends() {
  static const std::vector<std::unique_ptr<HighwayBackend>> owned = [] {
    std::vector<std::unique_ptr<HighwayBackend>> list;
    for (const Kernels& kernels : all_kernels()) list.push_back(std::make_unique<HighwayBackend>(kernels));
    return list;
  }();
  static const std::vector<const Backend*> list = [] {
    std::vector<const Backend*> pointers;
    pointers.reserve(owned.size());
    for (const auto& backend : owned) pointers.push_back(backend.get());
    return pointers;
  }();
  return list;
}

}  // namespace ufp4::cpu
