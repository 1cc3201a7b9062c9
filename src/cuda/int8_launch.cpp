#include "cuda/int8_launch.h"

#include <algorithm>

namespace ufp4::cuda {
namespace {

std::int64_t divide_up(std::int64_t n, std::int64_t by) { return (n + by - 1) / by; }

// The time of a launch in columns of a tile at full rate: rounds of all multiprocessors, each as long as a tile has
// columns. Smaller tiles read more for the same work, and so do blocks that share nothing.
double cost(const Int8Product& p, const Int8Launch& launch, std::int64_t multiprocessors) {
  // The groups' rows are known to the device alone.
  const bool rows = p.grouped == Int8Groups::kRows;
  const std::int64_t down = divide_up(rows ? divide_up(p.m, p.groups) : p.m, unit_rows(launch));
  const std::int64_t units = p.groups * down * divide_up(p.n, unit_columns(launch));
  const std::int64_t rounds = divide_up(units, std::max<std::int64_t>(1, multiprocessors / cluster_of(launch)));
  const double read_a = kInt8TileRows * (launch.share == Int8Share::kA ? 0.5 : 1.0);
  const double read_b = launch.columns * (launch.share == Int8Share::kB ? 0.5 : 1.0);
  const double read = (read_a + read_b) / launch.columns;  // bytes for the work of a column
  const double narrow = launch.columns == 128 ? 1.12 : 1;  // measured on an H200, and so is the weight of reading
  return static_cast<double>(rounds) * launch.columns * (1 + 0.08 * read) * narrow;
}

// Where they made it faster on an H200: nowhere else.
bool turns_pay(const Int8Product& p, const Int8Launch& launch) {
  return !launch.whole && launch.columns == 192 && launch.share == Int8Share::kB && p.segment >= 512 &&
         p.grouped == Int8Groups::kNone;
}

}  // namespace

std::string describe(const Int8Launch& launch) {
  const char* share = launch.share == Int8Share::kA ? ", a shared" : launch.share == Int8Share::kB ? ", b shared" : "";
  return "128x" + std::to_string(launch.columns) + (launch.whole ? " whole" : " pieces") + share +
         (launch.in_turn ? "" : ", at will");
}

std::vector<Int8Launch> int8_launches(const Int8Product& p) {
  // Of a row, even of a long one: where the depth is in groups, its length is known to the device alone.
  const bool whole = p.segment == 0 || p.k <= p.segment;
  std::vector<Int8Launch> all;
  for (const int columns : {whole ? 256 : 192, 128}) {
    for (const Int8Share share : {Int8Share::kB, Int8Share::kA, Int8Share::kNothing}) {
      for (const bool in_turn : {true, false}) {
        all.push_back({whole, columns, share, in_turn, share == Int8Share::kB ? 8 : 16});
      }
    }
  }
  return all;
}

Int8Launch int8_launch(const Int8Product& p, std::int64_t multiprocessors) {
  std::vector<Int8Launch> all = int8_launches(p);
  std::erase_if(all, [&](const Int8Launch& launch) { return launch.in_turn != turns_pay(p, launch); });
  return *std::min_element(all.begin(), all.end(), [&](const Int8Launch& x, const Int8Launch& y) {
    return cost(p, x, multiprocessors) < cost(p, y, multiprocessors);
  });
}

}  // namespace ufp4::cuda
