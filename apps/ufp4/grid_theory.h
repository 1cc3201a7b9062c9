// What `ufp4 formats` prints of the theory of grids.
#pragma once

#include <string>
#include <vector>

namespace ufp4::app {

enum class Output { kTable, kJson, kCsv };

struct GridTheory {
  int block = 16;
  std::vector<std::string> distributions{"uniform", "normal", "laplace", "student3", "student5"};
  int top = 10;  // lines of a sweep
  Output output = Output::kTable;
};

// The bins of a grid with Eq. 2's bias, and its expected figures under each distribution. `levels` is a list of numbers
// or the name of a format.
void print_grid(const std::string& levels, const GridTheory& options);

// The best grids of eight levels out of 0 .. largest, under each distribution, and the place of every named format that
// is one of them.
void print_sweep(int largest, const GridTheory& options);

}  // namespace ufp4::app
