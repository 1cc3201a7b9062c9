#include "quantize_file.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstring>
#include <mutex>
#include <span>
#include <system_error>

#include "io/safetensors.h"
#include "io/tensor_name.h"
#include "io/workers.h"
#include "progress.h"
#include "quantize_metadata.h"
#include "tensor_tiles.h"
#include "ufp4/error.h"

namespace ufp4::app {
namespace {

using io::SafetensorsReader;
using io::SafetensorsWriter;
using io::TensorInfo;
using io::TensorSpec;
using io::TensorType;

// A tensor to quantize, and the numbers of its results among the writer's tensors.
struct Operand {
  const TensorInfo* source = nullptr;
  DType dtype = DType::kF32;
  QuantizedShape shape;
  std::size_t number = 0;  // among the operands
  std::size_t codes = 0;
  std::size_t scales = 0;
  std::size_t global_scale = 0;
  std::size_t dequant = 0;
  std::size_t selectors = 0;     // of formats that have them
  std::size_t outer_scales = 0;  // of formats whose second-level scales stay apart and are not the tensor's
};

// Whether there is one second-level scale for the tensor; else a tile holds all that shares one.
bool whole_tensor_scale(const OperandSpec& spec) { return spec.outer_each() == OuterScale::kTensor; }

bool writes_outer_scales(const OperandSpec& spec) {
  return !whole_tensor_scale(spec) && spec.format->outer_stays_apart(spec.outer_each());
}

struct Work {
  const Operand* operand = nullptr;
  Tile tile;
};

// Sets a flag on SIGINT and SIGTERM while it lives, so that the temporary file is removed.
class SignalGuard {
 public:
  SignalGuard() {
    stop_ = false;
    for (std::size_t i = 0; i < kSignals.size(); ++i) old_[i] = std::signal(kSignals[i], [](int) { stop_ = true; });
  }
  ~SignalGuard() {
    for (std::size_t i = 0; i < kSignals.size(); ++i) std::signal(kSignals[i], old_[i]);
  }
  SignalGuard(const SignalGuard&) = delete;
  SignalGuard& operator=(const SignalGuard&) = delete;
  static bool stopped() { return stop_; }

 private:
  static constexpr std::array kSignals{SIGINT, SIGTERM};
  static inline std::atomic<bool> stop_ = false;  // threads read it
  static_assert(std::atomic<bool>::is_always_lock_free, "set in a signal handler");
  std::array<void (*)(int), kSignals.size()> old_{};
};

// Gives tiles of the stored tensors as matrices; one a thread.
class TileReader {
 public:
  TileReader(const SafetensorsReader& reader, Axis axis) : reader_(reader), axis_(axis) {}

  // The tile in the stored matrix; copied first where the file has it at an odd address.
  ConstMatrix matrix(const Operand& operand, const Tile& tile) {
    const bool transposed = axis_ == Axis::kColumn;
    const std::int64_t stride = operand.source->shape[1];
    const std::int64_t row = transposed ? tile.column : tile.row;
    const std::int64_t column = transposed ? tile.row : tile.column;
    ConstMatrix view{nullptr, operand.dtype, tile.rows, tile.columns, stride};
    if (transposed) std::swap(view.rows, view.columns);

    const std::size_t size = size_of(operand.dtype);
    const std::byte* first =
        reader_.bytes(*operand.source).data() + static_cast<std::size_t>(row * stride + column) * size;
    if (reinterpret_cast<std::uintptr_t>(first) % size == 0) {
      view.data = first;
      return view;
    }
    const std::size_t row_bytes = static_cast<std::size_t>(view.columns) * size;
    aligned_.resize(static_cast<std::size_t>(view.rows) * row_bytes);
    for (std::size_t r = 0; r < static_cast<std::size_t>(view.rows); ++r) {
      std::memcpy(aligned_.data() + r * row_bytes, first + r * static_cast<std::size_t>(stride) * size, row_bytes);
    }
    view.data = aligned_.data();
    view.row_stride = view.columns;
    return view;
  }

 private:
  const SafetensorsReader& reader_;
  Axis axis_;
  std::vector<std::byte> aligned_;
};

// The largest magnitude of every operand, for formats whose second-level scale spans the tensor.
class LargestMagnitudes {
 public:
  explicit LargestMagnitudes(std::size_t operands) : amax_(operands, 0.0F) {}

  void raise(const Operand& operand, float amax) {
    const std::lock_guard lock(mutex_);
    amax_[operand.number] = std::max(amax_[operand.number], amax);
  }
  const float& of(const Operand& operand) const { return amax_[operand.number]; }

 private:
  std::mutex mutex_;
  std::vector<float> amax_;
};

// Quantizes one tile after the other in memory of its own.
class TileQuantizer {
 public:
  TileQuantizer(const QuantizeFileJob& job, const SafetensorsReader& reader, const LargestMagnitudes& amax,
                SafetensorsWriter& writer)
      : job_(job), reader_(reader, job.place.axis), amax_(amax), writer_(writer) {}

  void operator()(const Work& work) {
    const Operand& operand = *work.operand;
    const Tile& tile = work.tile;
    const OperandSpec& spec = job_.spec;
    const bool whole = whole_tensor_scale(spec);
    QuantizeTask task{spec, job_.place, {}, whole ? &amax_.of(operand) : nullptr};
    task.place.row_offset = static_cast<std::uint32_t>(tile.row);
    task.place.column_offset = static_cast<std::uint32_t>(tile.column);

    const ConstMatrix in = reader_.matrix(operand, tile);
    const QuantizedShape shape = quantized_shape(in.rows, in.columns, spec, task.place.axis);
    const std::int64_t selector_block = spec.format->selector_block;
    codes_.resize(static_cast<std::size_t>(shape.rows * shape.codes_per_row()));
    scales_.resize(static_cast<std::size_t>(shape.rows * shape.scales_per_row));
    dequant_.resize(static_cast<std::size_t>(shape.rows * shape.columns));
    selectors_.resize(selector_block == 0 ? 0 : dequant_.size() / static_cast<std::size_t>(selector_block));
    float global_scale = 1;
    task.out.codes = codes_.data();
    task.out.scales = scales_.data();
    task.out.dequantized = dequant_.data();
    task.out.dequantized_dtype = DType::kF32;
    task.out.selectors = selectors_.data();
    const OuterShape outer = outer_shape(shape, spec.outer_each());
    outer_scales_.resize(whole ? 0 : static_cast<std::size_t>(outer.rows * outer.columns));
    task.out.outer_scales = whole ? &global_scale : writes_outer_scales(spec) ? outer_scales_.data() : nullptr;
    job_.backend->quantize(in, std::span(&task, 1));

    const std::int64_t block = spec.block_size();
    write<std::uint8_t>(operand.codes, codes_, tile, operand.shape.codes_per_row(), tile.column / 2);
    write<float>(operand.scales, scales_, tile, operand.shape.scales_per_row, tile.column / block);
    write<float>(operand.dequant, dequant_, tile, operand.shape.columns, tile.column);
    if (selector_block != 0) {
      write<std::uint8_t>(operand.selectors, selectors_, tile, operand.shape.columns / selector_block,
                          tile.column / selector_block);
    }
    if (writes_outer_scales(spec)) {
      const OuterShape all = outer_shape(operand.shape, spec.outer_each());
      write<float>(operand.outer_scales, outer_scales_, tile, all.columns, tile.column / all.columns_each);
    }
    if (tile.row == 0 && tile.column == 0) {
      writer_.write(operand.global_scale, std::as_bytes(std::span(&global_scale, 1)));
    }
  }

 private:
  // Writes the tile's rows to a result with `row_length` values a row, from value `column` of each on.
  template <typename T>
  void write(std::size_t index, const std::vector<T>& values, const Tile& tile, std::int64_t row_length,
             std::int64_t column) {
    const auto bytes = std::as_bytes(std::span(values));
    const auto place = [&](std::int64_t r) {
      return static_cast<std::uint64_t>((tile.row + r) * row_length + column) * sizeof(T);
    };
    const std::size_t row_bytes = bytes.size() / static_cast<std::size_t>(tile.rows);
    if (row_bytes == static_cast<std::size_t>(row_length) * sizeof(T)) {
      writer_.write(index, place(0), bytes);
      return;
    }
    for (std::int64_t r = 0; r < tile.rows; ++r) {
      writer_.write(index, place(r), bytes.subspan(static_cast<std::size_t>(r) * row_bytes, row_bytes));
    }
  }

  const QuantizeFileJob& job_;
  TileReader reader_;
  const LargestMagnitudes& amax_;
  SafetensorsWriter& writer_;
  std::vector<std::uint8_t> codes_;
  std::vector<float> scales_;
  std::vector<float> dequant_;
  std::vector<std::uint8_t> selectors_;
  std::vector<float> outer_scales_;
};

std::uint64_t bytes_of(const Work& work) {
  return static_cast<std::uint64_t>(work.tile.rows * work.tile.columns) * size_of(work.operand->dtype);
}

// Hands the tiles to threads, each with a worker that `make_worker` gives it.
template <typename MakeWorker>
void run_tiles(const QuantizeFileJob& job, const char* what, std::span<const Work> tiles,
               const MakeWorker& make_worker) {
  std::uint64_t total = 0;
  for (const Work& work : tiles) total += bytes_of(work);

  std::atomic<std::size_t> next{0};
  std::atomic<std::uint64_t> done{0};
  Progress progress(what, total);
  io::Workers workers(std::min<std::size_t>(job.threads, tiles.size()), [&](std::size_t) {
    try {
      auto work = make_worker();
      for (std::size_t i = next++; i < tiles.size() && !SignalGuard::stopped(); i = next++) {
        work(tiles[i]);
        done += bytes_of(tiles[i]);
      }
    } catch (...) {
      next = tiles.size();
      throw;
    }
  });
  while (!workers.end_within(std::chrono::milliseconds(200))) progress.show(done);
  workers.join();
  if (SignalGuard::stopped()) throw RunError("interrupted; '" + job.out.string() + "' was not written");
}

}  // namespace

QuantizeFileResult quantize_file(const QuantizeFileJob& job) {
  const SafetensorsReader reader(job.in);
  std::error_code error;
  if (std::filesystem::equivalent(job.in, job.out, error)) {
    throw InputError("'" + job.out.string() + "' is the input itself; name another file for the output");
  }

  QuantizeFileResult result;
  std::vector<Operand> operands;
  std::vector<TensorSpec> outputs;
  for (const TensorInfo& tensor : reader.tensors()) {
    const auto dtype = io::float_type(tensor.type);
    if (tensor.shape.size() != 2 || !dtype) {
      result.skipped.push_back(
          fmt::format("{}: {}-D {}", io::show_name(tensor.name), tensor.shape.size(), io::name_of(tensor.type)));
      continue;
    }
    Operand operand{&tensor, *dtype, {}};
    try {
      operand.shape = quantized_shape(tensor.shape[0], tensor.shape[1], job.spec, job.place.axis);
    } catch (const InputError& why) {
      throw InputError("tensor " + io::show_name(tensor.name) + ": " + why.what());
    }
    const QuantizedShape& shape = operand.shape;
    const auto declare = [&](const char* suffix, TensorType type, std::vector<std::int64_t> dimensions) {
      outputs.push_back({tensor.name + suffix, type, std::move(dimensions)});
      return outputs.size() - 1;
    };
    operand.codes = declare(".codes", TensorType::kU8, {shape.rows, shape.codes_per_row()});
    operand.scales = declare(".scales", TensorType::kF32, {shape.rows, shape.scales_per_row});
    if (writes_outer_scales(job.spec)) {
      const OuterShape outer = outer_shape(shape, job.spec.outer_each());
      const std::int64_t segments = shape.columns == 0 ? 0 : outer.columns;
      operand.outer_scales = declare(".outer_scales", TensorType::kF32, {shape.rows, segments});
    }
    operand.global_scale = declare(".global_scale", TensorType::kF32, {});
    operand.dequant = declare(".dequant", TensorType::kF32, {shape.rows, shape.columns});
    if (const std::int64_t each = job.spec.format->selector_block; each != 0) {
      operand.selectors = declare(".selectors", TensorType::kU8, {shape.rows, shape.columns / each});
    }
    operand.number = operands.size();
    operands.push_back(operand);
    result.bytes_read += tensor.end - tensor.begin;
  }
  result.tensors = operands.size();
  if (operands.empty()) {
    throw InputError(fmt::format("'{}' has no 2-D tensor of F32, F16 or BF16 to quantize ({} tensors of other kinds)",
                                 job.in.string(), result.skipped.size()));
  }

  std::vector<Work> tiles;
  for (const Operand& operand : operands) {
    for (const Tile& tile : make_tiles(operand.shape, job.spec, job.place.axis)) tiles.push_back({&operand, tile});
  }
  const SignalGuard signals;  // before the temporary file is there
  LargestMagnitudes amax(operands.size());
  if (job.spec.format->has_outer_scale() && whole_tensor_scale(job.spec)) {
    run_tiles(job, "measure", tiles, [&] {
      return [&job, &amax, tile_reader = TileReader(reader, job.place.axis)](const Work& work) mutable {
        const ConstMatrix tile = tile_reader.matrix(*work.operand, work.tile);
        amax.raise(*work.operand, job.backend->tensor_amax(tile, job.spec, job.place));
      };
    });
  }
  SafetensorsWriter writer(job.out, std::move(outputs), quantize_metadata(job.spec, job.place));
  for (const Operand& operand : operands) {  // one without elements has no tile that would write it
    const float none = job.spec.format->has_outer_scale() && whole_tensor_scale(job.spec) ? 0.0F : 1.0F;
    if (operand.shape.rows * operand.shape.columns == 0) {
      writer.write(operand.global_scale, std::as_bytes(std::span(&none, 1)));
    }
  }
  run_tiles(job, "quantize", tiles, [&] { return TileQuantizer(job, reader, amax, writer); });
  writer.commit();
  return result;
}

}  // namespace ufp4::app
