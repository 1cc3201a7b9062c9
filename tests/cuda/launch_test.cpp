// Which kernel an operand gets and how it is launched: pure functions, tested without a device.
#include "cuda/launch.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "ufp4/format.h"

namespace ufp4::cuda {
namespace {

constexpr std::int64_t kMultiprocessors = 132;

float* somewhere() {
  alignas(16) static float values[4];
  return values;
}

enum class Want { kPacked, kValues, kE4m3, kInt8, kBoth };

DeviceTask task_of(const char* format, Want want, Rounding rounding = Rounding::kNearest, int hadamard = 16,
                   Axis axis = Axis::kRow) {
  DeviceTask task;
  task.task.spec = {&find_format(format), 0, rounding, make_hadamard(hadamard, 1)};
  task.task.place.axis = axis;
  Quantized& out = task.task.out;
  auto* bytes = reinterpret_cast<std::uint8_t*>(somewhere());
  if (want == Want::kPacked || want == Want::kBoth) out.codes = bytes, out.packed_scales = bytes;
  if (want == Want::kValues || want == Want::kBoth) out.dequantized = bytes;
  if (want == Want::kE4m3) out.e4m3 = bytes;
  if (want == Want::kInt8) out.int8 = reinterpret_cast<std::int8_t*>(bytes);
  if (task.task.spec.format->has_outer_scale()) task.task.outer_amax = somewhere();
  return task;
}

Operand operand_of(const DeviceTask& task, std::int64_t rows = 16384, std::int64_t columns = 8192) {
  return make_operand(rows, columns, task);
}

Outputs outputs_for(const char* format, Want column, Want row, Rounding rounding = Rounding::kNearest,
                    int hadamard = 16) {
  return outputs_of(operand_of(task_of(format, column, rounding, hadamard, Axis::kColumn)),
                    operand_of(task_of(format, row, rounding, hadamard)));
}

TEST(CudaPolicy, FollowsFromTheRowOfTheFormat) {
  const auto policy = [](const char* format) { return operand_of(task_of(format, Want::kPacked)).policy; };
  for (const char* format : {"e1m2", "int4", "e0m3", "e2m1_max2"})
    EXPECT_EQ(policy(format), Policy::kUniform) << format;
  for (const char* format : {"e2m1", "e2m1_max4", "e2m1_max3"}) EXPECT_EQ(policy(format), Policy::kFloat) << format;
  EXPECT_EQ(policy("int4_full"), Policy::kSigned);
  EXPECT_EQ(policy("int4_p2"), Policy::kWindow);
  EXPECT_EQ(policy("int4_i4"), Policy::kInteger);
  EXPECT_EQ(policy("nvfp4"), Policy::kByteFloat);
  EXPECT_EQ(policy("nvint4"), Policy::kByteUniform);
  EXPECT_EQ(policy("mxfp4"), Policy::kPowerFloat);
  EXPECT_EQ(policy("mxint4"), Policy::kPowerUniform);
  for (const char* format : {"four_over_six", "mixfp4"}) EXPECT_EQ(policy(format), Policy::kBetter) << format;
  EXPECT_EQ(policy("hif4"), Policy::kTwoLevel);
}

TEST(CudaPolicy, OfLevelsWithoutAFormulaIsATable) {
  const BlockFormat thirds{
      "thirds", {"thirds", 4, {0, 0.3F, 0.6F, 1}, CodeKind::kSignMagnitude}, 16, ScaleEncoding::kFp32, ""};
  DeviceTask task = task_of("e1m2", Want::kPacked);
  task.task.spec.format = &thirds;
  EXPECT_EQ(operand_of(task).policy, Policy::kTable);
  EXPECT_FALSE(fits_tile(DType::kBF16, operand_of(task)));
  BlockFormat relative = thirds;
  relative.rule = ScaleRule::kTensorE4m3;
  relative.scale = ScaleEncoding::kE4m3;
  EXPECT_FALSE(has_kernels(relative));
}

// What training asks for has kernels that know its results in advance, with the format's own block.
TEST(CudaOutputs, OfTrainingAreKnown) {
  for (const BlockFormat& format : formats()) {
    const std::string name(format.name);
    for (const Rounding rounding : {Rounding::kNearest, Rounding::kStochastic}) {
      for (const int hadamard : {0, 16}) {
        const auto of = [&](Want column, Want row) {
          return outputs_for(name.c_str(), column, row, rounding, hadamard);
        };
        EXPECT_NE(of(Want::kPacked, Want::kPacked).span, Span::kLanes) << name;
        EXPECT_NE(of(Want::kPacked, Want::kValues).span, Span::kLanes) << name;
        EXPECT_NE(of(Want::kValues, Want::kValues).span, Span::kLanes) << name;
      }
    }
  }
  EXPECT_EQ(outputs_for("int4_p2", Want::kPacked, Want::kE4m3),
            (Outputs{Span::kOneRun, Output::kPacked, Output::kE4m3}));
  EXPECT_EQ(outputs_for("mxfp4", Want::kPacked, Want::kValues), (Outputs{Span::kRuns, Output::kPacked, Output::kBf16}));
}

TEST(CudaOutputs, OfTheRestAreAny) {
  const Outputs any{Span::kLanes, Output::kAny, Output::kAny};
  EXPECT_EQ(outputs_for("e1m2", Want::kValues, Want::kPacked), any);  // no kernel for that pair
  EXPECT_EQ(outputs_for("e1m2", Want::kBoth, Want::kBoth), any);
  EXPECT_EQ(outputs_for("nvfp4", Want::kPacked, Want::kPacked, Rounding::kNearest, 64), any);
  DeviceTask wide = task_of("e1m2", Want::kPacked);
  wide.task.spec.block = 32;
  EXPECT_EQ(outputs_of(operand_of(wide), operand_of(wide)), any);
  DeviceTask f32 = task_of("e1m2", Want::kValues);
  f32.task.out.dequantized_dtype = DType::kF32;
  EXPECT_EQ(outputs_of(operand_of(f32), operand_of(f32)), any);
  DeviceTask parts = task_of("int4_p2", Want::kPacked);
  parts.task.spec.outer.each = OuterScale::kRow;
  EXPECT_EQ(outputs_of(operand_of(parts), operand_of(parts)), any);
}

// Random bits of shards that begin within a group of eight, and of gathered rows, have kernels of their own; those of a
// place that only the device knows decide there.
TEST(CudaOutputs, OfIrregularPlacesAreAny) {
  const std::uint32_t number = 0;
  const auto span = [](const DeviceTask& task) { return operand_of(task).span; };
  DeviceTask task = task_of("e1m2", Want::kPacked, Rounding::kStochastic);
  EXPECT_EQ(span(task), Span::kOneRun);
  task.task.place.column_offset = 16;
  EXPECT_EQ(span(task), Span::kOneRun);
  task.place.first_row = &number;
  EXPECT_EQ(span(task), Span::kOneRun);
  task.task.place.column_offset = 4;
  EXPECT_EQ(span(task), Span::kLanes);
  task.task.spec.rounding = Rounding::kNearest;
  EXPECT_EQ(span(task), Span::kOneRun);
  task = task_of("e1m2", Want::kPacked, Rounding::kStochastic);
  task.task.place.row_numbers = &number;
  EXPECT_EQ(span(task), Span::kLanes);
}

TEST(CudaOperands, OfOnePolicyAndRoundingShareARead) {
  const auto pair = [](const char* column, const char* row, Rounding rounding) {
    const std::vector<DeviceTask> tasks{task_of(row, Want::kPacked, rounding),
                                        task_of(column, Want::kPacked, Rounding::kNearest, 16, Axis::kColumn)};
    const OperandPairs pairs = make_operands(DType::kBF16, 256, 256, tasks);
    EXPECT_EQ(pairs.tiles.size(), 1u);
    return pairs.tiles[0].row.has_value();
  };
  EXPECT_TRUE(pair("e1m2", "int4", Rounding::kNearest));
  EXPECT_TRUE(pair("e2m1", "e2m1_max4", Rounding::kNearest));
  EXPECT_TRUE(pair("four_over_six", "mixfp4", Rounding::kNearest));
  EXPECT_FALSE(pair("nvfp4", "mxfp4", Rounding::kNearest));
  EXPECT_FALSE(pair("e1m2", "e1m2", Rounding::kStochastic));
  EXPECT_FALSE(pair("e1m2", "nvfp4", Rounding::kNearest));
}

// Every run of every row is some thread's, whatever the shape.
TEST(CudaRowLaunch, CoversTheMatrix) {
  for (const char* format : {"e1m2", "mxfp4", "hif4"}) {
    for (const std::int64_t rows : {1, 7, 300, 16384, 10000000}) {
      for (const std::int64_t columns : {1, 16, 48, 200, 4096, 8192, 100000}) {
        for (const Want want : {Want::kPacked, Want::kValues}) {
          const Operand p = operand_of(task_of(format, want), rows, columns);
          const RowLaunch launch = row_launch(p, DType::kBF16, kMultiprocessors);
          const std::int64_t runs = p.columns / kRun;
          EXPECT_GE(std::int64_t{launch.across} << launch.width_log2, runs);
          EXPECT_LE((std::int64_t{launch.across} << launch.width_log2) * 15, runs * 16) << "idle threads";
          EXPECT_GE(launch.down, 1u);
          EXPECT_LE(std::int64_t{launch.down}, std::int64_t{65535});
          EXPECT_LE((std::int64_t{launch.down} - 1) * (kRowThreads >> launch.width_log2), rows) << "idle blocks";
          // The lanes of a block or a transform lie in one row.
          EXPECT_GE(1 << launch.width_log2, p.lanes);
        }
      }
    }
  }
}

TEST(CudaRowLaunch, StaysForManyRowsOnlyWherePackedAndLight) {
  const auto blocks = [](const char* format, Want want, Rounding rounding) {
    const RowLaunch launch = row_launch(operand_of(task_of(format, want, rounding)), DType::kBF16, kMultiprocessors);
    return launch.across * launch.down;
  };
  const std::uint32_t filling = kMultiprocessors * 4;
  EXPECT_EQ(blocks("e1m2", Want::kPacked, Rounding::kNearest), filling);
  EXPECT_EQ(blocks("e1m2", Want::kPacked, Rounding::kStochastic), 4 * filling);
  EXPECT_EQ(blocks("nvfp4", Want::kPacked, Rounding::kNearest), 4 * filling);
  EXPECT_GT(blocks("e1m2", Want::kValues, Rounding::kNearest), 4 * filling);
}

// The places that the blocks of a grid go through, as TileWalk does.
std::multiset<std::pair<std::uint32_t, std::uint32_t>> places_of(const TileGrid& grid) {
  std::multiset<std::pair<std::uint32_t, std::uint32_t>> places;
  for (std::uint32_t block = 0; block < grid.blocks; ++block) {
    for (std::uint32_t tile = block; tile < grid.count; tile += grid.blocks) {
      const std::uint32_t band = tile / grid.width;
      const std::uint32_t within = tile % grid.width;
      const std::uint32_t down = (band << grid.band_log2) + (within & ((1u << grid.band_log2) - 1));
      places.emplace(down, within >> grid.band_log2);
    }
  }
  return places;
}

TEST(CudaTileGrid, VisitsEveryTileOnce) {
  for (const bool async : {true, false}) {
    for (const Pairs pairs : {Pairs::kNone, Pairs::kHeads, Pairs::kHalves}) {
      if (async && pairs != Pairs::kNone) continue;
      for (const std::int64_t rows : {1, 128, 700, 1024, 16384}) {
        for (const std::int64_t columns : {128, 1280, 8192}) {
          const Operand column = operand_of(task_of("e1m2", Want::kPacked, Rounding::kNearest, 16, Axis::kColumn));
          const Operand row = operand_of(task_of("e1m2", Want::kPacked));
          for (const Operand* with_row : {static_cast<const Operand*>(nullptr), &row}) {
            const TileSource source{rows, columns, 64, 2, async, pairs, pairs == Pairs::kHeads ? 64 : columns / 2};
            const TileGrid grid = tile_grid(source, &column, with_row, kMultiprocessors);
            const auto places = places_of(grid);
            const std::uint32_t down = static_cast<std::uint32_t>((rows + 127) / 128);
            EXPECT_EQ(places.size(), grid.count);
            EXPECT_EQ(std::set(places.begin(), places.end()).size(), grid.count) << "a tile twice";
            EXPECT_EQ(std::prev(places.end())->first, down - 1);
            EXPECT_EQ(down % (1u << grid.band_log2), 0u);
            EXPECT_EQ(grid.step_bands * grid.width + grid.step_tiles, grid.blocks);
            EXPECT_GE(grid.count, grid.blocks);
            const int passes = 2 * (with_row == nullptr ? 1 : 2) << grid.abreast_log2;
            EXPECT_EQ(grid.passes * static_cast<int>(grid.shares), passes);
          }
        }
      }
    }
  }
}

TEST(CudaTileGrid, SharesTheTilesOfASmallMatrix) {
  const Operand column = operand_of(task_of("e1m2", Want::kPacked, Rounding::kNearest, 16, Axis::kColumn));
  const Operand row = operand_of(task_of("e1m2", Want::kPacked));
  const auto grid = [&](std::int64_t size) {
    return tile_grid({size, size, 64, 2, true, Pairs::kNone, 0}, &column, &row, kMultiprocessors);
  };
  EXPECT_EQ(grid(1024).shares, 4u);
  EXPECT_EQ(grid(1024).abreast_log2, 0);
  EXPECT_EQ(grid(8192).shares, 1u);
  EXPECT_EQ(grid(8192).abreast_log2, 1);
}

// A repetition that is seldom needed takes as few blocks as fill the device.
TEST(CudaTileGrid, TakesFewBlocksForWhatIsSeldomDone) {
  const std::uint32_t number = 0;
  DeviceTask task = task_of("int4_p2", Want::kPacked, Rounding::kNearest, 16, Axis::kColumn);
  const Operand always = operand_of(task);
  task.only_if = &number;
  const Operand seldom = operand_of(task);
  const TileSource source{16384, 8192, 64, 2, true, Pairs::kNone, 0};
  EXPECT_EQ(tile_grid(source, &seldom, nullptr, kMultiprocessors).blocks, 4 * kMultiprocessors);
  EXPECT_GT(tile_grid(source, &always, nullptr, kMultiprocessors).blocks, 4 * kMultiprocessors);
}

// An operand of int4_i4 whose second-level scales belong to segments of that length.
Operand segments_of(OuterScale each, Axis axis, Want want = Want::kInt8, int hadamard = 16) {
  DeviceTask task = task_of("int4_i4", want, Rounding::kNearest, hadamard, axis);
  task.task.spec.outer.each = each;
  return operand_of(task);
}

TEST(CudaSegments, TakeWhatAWarpOrAClusterHolds) {
  for (const Axis axis : {Axis::kRow, Axis::kColumn}) {
    for (const OuterScale each : {OuterScale::k1x128, OuterScale::k1x256, OuterScale::k1x512, OuterScale::kOwn}) {
      for (const DType dtype : {DType::kBF16, DType::kF16}) EXPECT_TRUE(fits_segments(dtype, segments_of(each, axis)));
    }
    EXPECT_FALSE(fits_segments(DType::kF32, segments_of(OuterScale::k1x512, axis)));
    for (const OuterScale each : {OuterScale::k1x1024, OuterScale::kRow}) {
      EXPECT_FALSE(fits_segments(DType::kBF16, segments_of(each, axis))) << name_of(each);
    }
    EXPECT_FALSE(fits_segments(DType::kBF16, segments_of(OuterScale::k1x512, axis, Want::kInt8, 32)));
    EXPECT_FALSE(fits_segments(DType::kBF16, operand_of(task_of("e1m2", Want::kPacked, Rounding::kNearest, 16, axis))));
  }
}

TEST(CudaSegments, KnowTheResultsThatTrainingWants) {
  const auto outputs = [](Want column, Want row) {
    return segment_outputs_of(segments_of(OuterScale::kOwn, Axis::kColumn, column),
                              segments_of(OuterScale::kOwn, Axis::kRow, row));
  };
  EXPECT_EQ(outputs(Want::kInt8, Want::kInt8), (SegmentOutputs{Output::kInt8, Output::kInt8}));
  EXPECT_EQ(outputs(Want::kPacked, Want::kInt8), (SegmentOutputs{Output::kPacked, Output::kInt8}));
  for (const Want row : {Want::kPacked, Want::kValues, Want::kBoth}) {
    EXPECT_EQ(outputs(Want::kPacked, row), (SegmentOutputs{Output::kAny, Output::kAny}));
  }
}

TEST(CudaSegments, ClustersCoverTheMatrix) {
  for (const OuterScale each : {OuterScale::k1x128, OuterScale::k1x256, OuterScale::k1x512}) {
    const Operand column = segments_of(each, Axis::kColumn);
    for (const std::int64_t rows : {1, 64, 513, 16384}) {
      for (const std::int64_t columns : {8, 512, 520, 8192}) {
        const SegmentGrid grid = segment_grid(rows, columns, &column, 16);
        EXPECT_EQ(kSegmentRows << grid.cluster_log2, columns_of(each));
        EXPECT_LE(1 << grid.cluster_log2, kLargestCluster);
        EXPECT_EQ(grid.down, (rows + columns_of(each) - 1) / columns_of(each));
        EXPECT_EQ(grid.count, grid.down * ((columns + 511) / 512));
        EXPECT_LE(grid.clusters, std::min(grid.count, 16u));
        EXPECT_GE(grid.clusters, 1u);
      }
    }
  }
  const SegmentGrid rows_alone = segment_grid(1000, 1000, nullptr, 132);
  EXPECT_EQ(rows_alone.cluster_log2, 0);
  EXPECT_EQ(rows_alone.count, 32u);
}

}  // namespace
}  // namespace ufp4::cuda
