// Cuts a matrix into what the kernels take: groups of full vectors where they fit, zero-padded copies at the edges, and
// for columns a stage from which whole cache lines are written.
#include <algorithm>
#include <cstring>
#include <vector>

#include "cpu/job.h"
#include "cpu/outer_scales.h"
#include "numerics/packed_scales.h"
#include "numerics/reference.h"
#include "numerics/scale_rules.h"

namespace ufp4::cpu {
namespace {

// Rows of the matrix that a stage holds: enough for full cache lines of codes and, in blocks of 16, of scales.
constexpr std::int64_t kTileRows = 256;
// Columns of a tile: with a row task beside it, enough for all lanes of the longest units, and for long writes of its
// results.
constexpr std::int64_t kTileColumns = 256;
constexpr std::int64_t kSharedTileColumns = 4096;

// Results beyond this do not stay in a cache until they are read.
constexpr std::int64_t kCacheBytes = 8 << 20;

constexpr std::size_t kMaxLanes = 16;
constexpr std::size_t kMaxUnit = 128;

std::size_t to_size(std::int64_t n) { return static_cast<std::size_t>(n); }

// One task with its kernel and its memory.
class Worker {
 public:
  // `amax`: where magnitudes are gathered, for a job that measures.
  Worker(const Kernels& kernels, const ConstMatrix& in, const Job& job, const QuantizeTask& task, float* amax = nullptr)
      : kernels_(kernels),
        in_(in),
        job_(job),
        span_(kernels.find_span(job_)),
        element_(size_of(in.dtype)),
        amax_(amax),
        outer_(job_, task, kernels.lanes),
        expansion_(expansion_of(*job_.format, job_.block)) {}

  const Job& job() const { return job_; }
  const OuterScales& outer() const { return outer_; }

  // Row r, elements begin .. end - 1 of the operand (`begin` at a whole unit; `end` too, or the end of the row).
  void row(std::int64_t r, std::int64_t begin, std::int64_t end);

  // Columns: begins a tile, takes a unit of rows from `r` on, writes the tile out.
  void begin_tile(std::int64_t first_row, std::int64_t first_column, std::int64_t columns);
  void column_unit(std::int64_t r);
  void end_tile();

 private:
  const std::uint8_t* element_at(std::int64_t r, std::int64_t c) const {
    return static_cast<const std::uint8_t*>(in_.data) + to_size(r * in_.row_stride + c) * element_;
  }
  // Whether somebody reads the scales that the kernels write, and the codes.
  bool scales_are_read() const {
    return job_.measure || job_.out.packed_scales != nullptr || outer_.in_scales() || selectors_are_read();
  }
  bool selectors_are_read() const {
    const bool any = job_.out.selectors != nullptr || job_.out.packed_scales != nullptr;
    return (any && job_.format->selector_block != 0) || values_are_made();
  }
  bool values_are_made() const { return job_.out.dequantized != nullptr || job_.out.int8 != nullptr; }
  // All that is made of a piece of row r besides codes and raw scales.
  // `selectors`: a word a block, of formats that have them.
  void finish(const std::uint8_t* codes, float* scales, const std::uint32_t* selectors, std::int64_t r,
              std::int64_t begin, std::int64_t count);
  // A byte for each selector of these words.
  const std::uint8_t* unpack_selectors(const std::uint32_t* words, std::size_t blocks);

  const Kernels& kernels_;
  const ConstMatrix& in_;
  const Job job_;
  Kernels::SpanFunction span_;
  std::size_t element_;
  float* amax_;
  OuterScales outer_;
  const Expansion expansion_;

  // Of rows: results that the caller does not want but dequantization reads. Of columns: those of a tile, transposed.
  std::vector<std::uint8_t> codes_;
  std::vector<float> scales_;
  std::vector<std::uint32_t> selectors_;
  std::vector<std::uint8_t> selector_bytes_;
  // Columns: what the kernels wrote, not yet transposed.
  std::vector<std::uint32_t> stage_codes_;
  std::vector<float> stage_scales_;
  std::vector<std::uint32_t> stage_selectors_;
  std::int64_t tile_row_ = 0;
  std::int64_t tile_column_ = 0;
  std::int64_t tile_columns_ = 0;
  std::int64_t tile_units_ = 0;
  std::size_t stage_stride_ = 0;
  // A padded copy of an edge.
  alignas(64) std::array<std::uint8_t, kMaxLanes * kMaxUnit * sizeof(float)> edge_{};
};

const std::uint8_t* Worker::unpack_selectors(const std::uint32_t* words, std::size_t blocks) {
  const int each = job_.format->selector_block;
  if (each == 0) return nullptr;
  const int parts = job_.block / each;
  selector_bytes_.resize(blocks * to_size(parts));
  std::uint8_t* to = selector_bytes_.data();
  for (std::size_t i = 0; i < blocks; ++i) {
    for (int part = 0; part < parts; ++part) *to++ = words[i] >> (2 * part) & 3u;
  }
  return selector_bytes_.data();
}

void Worker::finish(const std::uint8_t* codes, float* scales, const std::uint32_t* selectors, std::int64_t r,
                    std::int64_t begin, std::int64_t count) {
  const std::int64_t blocks = count / job_.block;
  if (job_.measure) {
    for (std::int64_t i = 0; i < blocks; ++i) {
      float& here = amax_[outer_.index(r, begin + i * job_.block)];
      here = reference::raised(here, scales[i]);
    }
    return;
  }
  const Quantized& out = job_.out;
  const std::uint8_t* selector_bytes = unpack_selectors(selectors, to_size(blocks));
  if (out.selectors != nullptr && selector_bytes != nullptr) {
    const std::int64_t each = job_.format->selector_block;
    std::copy_n(selector_bytes, count / each, out.selectors + (r * job_.shape.columns + begin) / each);
  }
  if (out.packed_scales != nullptr) {
    const std::int64_t first = r * job_.shape.scales_per_row + begin / job_.block;
    pack_scales(*job_.format, scales, selector_bytes, to_size(blocks),
                out.packed_scales + first * job_.format->packed_scale_bytes());
  }
  if (outer_.in_scales()) {
    for (std::int64_t i = 0; i < blocks; ++i) scales[i] *= outer_.scale(r, begin + i * job_.block);
  }
  if (out.int8 != nullptr) {
    integers_of(codes, scales, blocks, job_.block, out.int8 + r * job_.shape.columns + begin);
  }
  if (out.dequantized == nullptr) return;
  Expansion expansion = expansion_;
  expansion.out_dtype = out.dequantized_dtype;
  // As many blocks at a time as share a second-level scale that is not in theirs.
  const std::int64_t selectors_each = selector_bytes == nullptr ? 0 : job_.block / job_.format->selector_block;
  for (std::int64_t first = 0; first < blocks;) {
    const std::int64_t column = begin + first * job_.block;
    const std::int64_t end = std::min(begin + count, outer_.in_scales() ? begin + count : outer_.end_of(column));
    const std::int64_t size = (end - column) / job_.block;
    expansion.codes = codes + first * job_.block / 2;
    expansion.scales = scales + first;
    expansion.selectors = selector_bytes == nullptr ? nullptr : selector_bytes + first * selectors_each;
    expansion.outer_scale = outer_.in_scales() ? 1 : outer_.scale(r, column);
    expansion.blocks = to_size(size);
    expansion.out = static_cast<std::uint8_t*>(out.dequantized) +
                    to_size(r * job_.shape.columns + column) * size_of(out.dequantized_dtype);
    kernels_.dequantize(expansion);
    first += size;
  }
}

void Worker::row(std::int64_t r, std::int64_t begin, std::int64_t end) {
  const std::int64_t unit = job_.unit;
  const std::int64_t count = end - begin;
  std::uint8_t* codes = nullptr;
  float* scales = nullptr;
  if (job_.out.codes != nullptr) {
    codes = job_.out.codes + r * job_.shape.codes_per_row() + begin / 2;
  } else {
    codes_.resize(to_size(count / 2));
    codes = codes_.data();
  }
  if (job_.out.scales != nullptr) {
    scales = job_.out.scales + r * job_.shape.scales_per_row + begin / job_.block;
  } else {
    scales_.resize(to_size(count / job_.block));
    scales = scales_.data();
  }
  selectors_.resize(to_size(count / job_.block));
  std::uint32_t* selectors = selectors_.data();

  const auto group = static_cast<std::int64_t>(kernels_.lanes) * unit;
  Span span;
  span.row = job_.place.row_number(static_cast<std::uint32_t>(r));
  span.column = static_cast<std::uint32_t>(begin) + job_.place.column_offset;
  span.stride = to_size(unit) * element_;
  span.source = element_at(r, begin);
  span.codes = reinterpret_cast<std::uint32_t*>(codes);
  span.scales = scales;
  span.selectors = selectors;
  const std::int64_t groups = (std::min(end, job_.shape.valid_columns) - begin) / group;
  const std::int64_t done = groups * group;
  outer_.fill(span, r, 0, begin, unit, groups + (done < count ? 1 : 0));
  span.groups = to_size(groups);
  if (groups > 0) span_(job_, span);

  if (done < count) {
    span.outer += to_size(groups) * span.outer_stride;
    const std::int64_t valid = std::min(end, job_.shape.valid_columns) - begin - done;
    std::memcpy(edge_.data(), element_at(r, begin + done), to_size(valid) * element_);
    std::memset(edge_.data() + to_size(valid) * element_, 0, to_size(group - valid) * element_);
    alignas(64) std::array<std::uint32_t, kMaxLanes * kMaxUnit / 8> edge_codes;
    alignas(64) std::array<float, kMaxLanes * kMaxUnit / kRun> edge_scales;
    alignas(64) std::array<std::uint32_t, kMaxLanes * kMaxUnit / kRun> edge_selectors;
    span.column += static_cast<std::uint32_t>(done);
    span.source = edge_.data();
    span.codes = edge_codes.data();
    span.scales = edge_scales.data();
    span.selectors = edge_selectors.data();
    span.groups = 1;
    span_(job_, span);
    std::memcpy(codes + done / 2, edge_codes.data(), to_size((count - done) / 2));
    const std::size_t blocks = to_size((count - done) / job_.block);
    std::copy_n(edge_scales.data(), blocks, scales + done / job_.block);
    if (job_.format->selector_block != 0) std::copy_n(edge_selectors.data(), blocks, selectors + done / job_.block);
  }
  if (scales_are_read()) finish(codes, scales, selectors, r, begin, count);
}

void Worker::begin_tile(std::int64_t first_row, std::int64_t first_column, std::int64_t columns) {
  tile_row_ = first_row;
  tile_column_ = first_column;
  tile_columns_ = columns;
  tile_units_ = 0;
  stage_stride_ = (to_size(columns) + kernels_.lanes - 1) / kernels_.lanes * kernels_.lanes;
  stage_codes_.resize(to_size(kTileRows / 8) * stage_stride_);
  stage_scales_.resize(to_size(kTileRows / job_.block) * stage_stride_);
  stage_selectors_.resize(stage_scales_.size());
}

void Worker::column_unit(std::int64_t r) {
  const std::int64_t unit = job_.unit;
  const auto lanes = static_cast<std::int64_t>(kernels_.lanes);
  Span span;
  span.row = job_.place.row_number(static_cast<std::uint32_t>(tile_column_));
  span.column = static_cast<std::uint32_t>(r) + job_.place.column_offset;
  span.stride = to_size(in_.row_stride) * element_;
  span.source = element_at(r, tile_column_);
  span.codes = stage_codes_.data() + to_size(tile_units_ * unit / 8) * stage_stride_;
  span.scales = stage_scales_.data() + to_size(tile_units_ * unit / job_.block) * stage_stride_;
  span.selectors = stage_selectors_.data() + to_size(tile_units_ * unit / job_.block) * stage_stride_;
  span.stage_stride = stage_stride_;
  const std::int64_t rows = std::min(unit, in_.rows - r);
  const std::int64_t groups = rows == unit ? tile_columns_ / lanes : 0;
  outer_.fill(span, tile_column_, 1, r, 0, (tile_columns_ + lanes - 1) / lanes);
  span.groups = to_size(groups);
  if (groups > 0) span_(job_, span);

  span.groups = 1;
  span.stride = kernels_.lanes * element_;
  span.source = edge_.data();
  for (std::int64_t done = groups * lanes; done < tile_columns_; done += lanes) {
    const std::int64_t width = std::min(lanes, tile_columns_ - done);
    std::memset(edge_.data(), 0, to_size(unit) * span.stride);
    for (std::int64_t i = 0; i < rows; ++i) {
      std::memcpy(edge_.data() + to_size(i) * span.stride, element_at(r + i, tile_column_ + done),
                  to_size(width) * element_);
    }
    Span edge = span;
    edge.row += static_cast<std::uint32_t>(done);
    edge.codes += done;
    edge.scales += done;
    edge.selectors += done;
    edge.outer += to_size(done / lanes) * span.outer_stride;
    span_(job_, edge);
  }
  ++tile_units_;
}

void Worker::end_tile() {
  const Quantized& out = job_.out;
  const std::int64_t elements = tile_units_ * job_.unit;
  const std::size_t words = to_size(elements / 8);
  const std::size_t blocks = to_size(elements / job_.block);
  const std::size_t columns = to_size(tile_columns_);
  const bool expand = values_are_made();
  const bool large = job_.shape.rows * job_.shape.codes_per_row() > kCacheBytes;

  std::uint8_t* codes = nullptr;
  std::size_t codes_stride = 0;
  if (out.codes != nullptr) {
    codes_stride = to_size(job_.shape.codes_per_row());
    codes = out.codes + to_size(tile_column_) * codes_stride + tile_row_ / 2;
  } else if (expand) {
    codes_stride = words * sizeof(std::uint32_t);
    codes_.resize(codes_stride * columns);
    codes = codes_.data();
  }
  if (codes != nullptr)
    kernels_.transpose(stage_codes_.data(), stage_stride_, words, columns, codes, codes_stride, large && !expand);

  float* scales = nullptr;
  std::size_t scales_stride = 0;
  if (out.scales != nullptr) {
    scales_stride = to_size(job_.shape.scales_per_row);
    scales = out.scales + to_size(tile_column_) * scales_stride + tile_row_ / job_.block;
  } else if (scales_are_read()) {
    scales_stride = blocks;
    scales_.resize(scales_stride * columns);
    scales = scales_.data();
  }
  if (scales != nullptr) {
    kernels_.transpose(reinterpret_cast<const std::uint32_t*>(stage_scales_.data()), stage_stride_, blocks, columns,
                       reinterpret_cast<std::uint8_t*>(scales), scales_stride * sizeof(float),
                       large && !scales_are_read());
  }

  if (!scales_are_read()) return;
  selectors_.resize(blocks * columns);
  if (job_.format->selector_block != 0) {
    kernels_.transpose(stage_selectors_.data(), stage_stride_, blocks, columns,
                       reinterpret_cast<std::uint8_t*>(selectors_.data()), blocks * sizeof(std::uint32_t), false);
  }
  for (std::size_t c = 0; c < columns; ++c) {
    finish(codes + c * codes_stride, scales + c * scales_stride, selectors_.data() + c * blocks,
           tile_column_ + static_cast<std::int64_t>(c), tile_row_, elements);
  }
}

void run_rows(std::vector<Worker>& workers, RowRange rows) {
  for (std::int64_t r = rows.first; r < rows.last; ++r) {
    for (Worker& worker : workers) worker.row(r, 0, worker.job().shape.columns);
  }
}

// Tile after tile, and within a tile strip after strip: what the row tasks have read the column tasks find in cache.
void run_tiles(std::vector<Worker>& row_workers, std::vector<Worker>& column_workers, const ConstMatrix& in,
               RowRange rows) {
  const std::int64_t tile_columns = row_workers.empty() ? kTileColumns : kSharedTileColumns;
  std::int64_t strip = 0;
  for (const Worker& worker : column_workers) strip = std::max<std::int64_t>(strip, worker.job().unit);
  for (std::int64_t tile_row = rows.first; tile_row < rows.last; tile_row += kTileRows) {
    const std::int64_t rows_end = std::min(rows.last, tile_row + kTileRows);
    for (std::int64_t column = 0; column < in.columns; column += tile_columns) {
      const std::int64_t columns = std::min(tile_columns, in.columns - column);
      for (Worker& worker : column_workers) worker.begin_tile(tile_row, column, columns);
      for (std::int64_t r = tile_row; r < rows_end; r += strip) {
        const std::int64_t strip_end = std::min(rows_end, r + strip);
        for (Worker& worker : row_workers) {
          const bool last = column + columns == in.columns;
          const std::int64_t end = last ? worker.job().shape.columns : column + columns;
          for (std::int64_t row = r; row < strip_end; ++row) worker.row(row, column, end);
        }
        for (Worker& worker : column_workers) {
          for (std::int64_t row = r; row < strip_end; row += worker.job().unit) worker.column_unit(row);
        }
      }
      for (Worker& worker : column_workers) worker.end_tile();
    }
  }
}

}  // namespace

void run_quantize(const Kernels& kernels, const ConstMatrix& in, std::span<const QuantizeTask> tasks, RowRange rows) {
  std::vector<Worker> row_workers;
  std::vector<Worker> column_workers;
  for (const QuantizeTask& task : tasks) {
    const std::optional<Job> job = make_job(in, task);
    if (!job) {
      reference::quantize(in, task, rows);
      continue;
    }
    Worker& worker = (job->column ? column_workers : row_workers).emplace_back(kernels, in, *job, task);
    if (rows.first == 0) worker.outer().write(task.out);
  }
  if (column_workers.empty()) {
    run_rows(row_workers, rows);
  } else {
    run_tiles(row_workers, column_workers, in, rows);
  }
}

void run_outer_amax(const Kernels& kernels, const ConstMatrix& in, const OperandSpec& spec, const Place& place,
                    RowRange rows, float* amax) {
  const QuantizeTask task{spec, place, {}};
  std::optional<Job> job = make_job(in, task);
  if (!job) return reference::raise_outer_amax(in, spec, place, rows, amax);
  job->measure = true;
  std::vector<Worker> none;
  std::vector<Worker> one;
  one.emplace_back(kernels, in, *job, task, amax);
  if (job->column) {
    run_tiles(none, one, in, rows);
  } else {
    run_rows(one, rows);
  }
}

}  // namespace ufp4::cpu
