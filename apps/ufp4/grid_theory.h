// What `ufp4 formats` prints of the theory of grids.
#pragma once

#include <string>
#include <vector>

namespace ufp4::app {

enum class Output { kTable, kJson, kCsv };
enum class RankBy { kBefore, kAfter };  // the transform

struct GridTheory {
  int block = 16;
  std::vector<std::string> distributions{"uniform", "normal", "laplace", "student3", "student5"};
  int top = 10;                      // lines of a sweep
  RankBy rank_by = RankBy::kBefore;  // its order
  Output output = Output::kTable;
};

// The bins of a grid with Eq. 2's bias, and its expected figures under each distribution. `levels` is a list of numbers
// or the name of a format.
void print_grid(const std::string& levels, const GridTheory& options);

// The largest number of a sweep's levels: beyond it there are too many grids.
inline constexpr int kLargestSweep = 26;

// The best grids of eight levels out of 0 .. largest, under each distribution, and the place of every named format that
// is one of them. After the transform: for blocks that the quantizer knows, else InputError.
void print_sweep(int largest, const GridTheory& options);

}  // namespace ufp4::app
