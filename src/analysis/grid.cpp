#include "analysis/grid.h"

#include <array>
#include <charconv>
#include <cmath>

#include "ufp4/error.h"

namespace ufp4::analysis {
namespace {

std::string text_of(double number) {
  std::array<char, 32> text{};
  return {text.data(), std::to_chars(text.data(), text.data() + text.size(), number).ptr};
}

}  // namespace

Grid make_grid(std::string name, std::span<const double> levels) {
  const std::string where = "grid '" + name + "': ";
  if (levels.size() < 2 || levels.size() > 8) {
    throw InputError(where + std::to_string(levels.size()) + " levels, expected 2 to 8 (the positive half, with 0)");
  }
  if (levels[0] != 0) throw InputError(where + "the first level is " + text_of(levels[0]) + ", expected 0");
  for (std::size_t i = 1; i < levels.size(); ++i) {
    // As the quantizer sees them.
    const auto level = static_cast<float>(levels[i]);
    if (!std::isfinite(level) || level <= static_cast<float>(levels[i - 1])) {
      throw InputError(where + "level " + std::to_string(i) + " is " + text_of(levels[i]) +
                       ", expected a finite FP32 number above " + text_of(levels[i - 1]));
    }
  }
  return {std::move(name), {levels.begin(), levels.end()}};
}

Grid parse_grid(const std::string& text) {
  std::vector<double> levels;
  std::size_t begin = 0;
  while (begin <= text.size()) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    double value = 0;
    const char* first = text.data() + begin;
    const char* last = text.data() + end;
    const auto [stop, error] = std::from_chars(first, last, value);
    if (error != std::errc() || stop != last) {
      throw InputError("grid '" + text + "': '" + std::string(first, last) + "' is not a number");
    }
    levels.push_back(value);
    begin = end + 1;
  }
  return make_grid(text, levels);
}

Grid grid_of(const BlockFormat& format) {
  const auto levels = std::span(format.element.levels).first(static_cast<std::size_t>(format.element.level_count));
  return make_grid(std::string(format.name), std::vector<double>(levels.begin(), levels.end()));
}

std::vector<Bin> bins_of(const Grid& grid) {
  std::vector<Bin> bins;
  const std::vector<double>& q = grid.levels;
  for (std::size_t i = 0; i < q.size(); ++i) {
    const bool first = i == 0;
    const bool last = i + 1 == q.size();
    Bin bin;
    bin.level = q[i];
    bin.lower = first ? 0 : (q[i - 1] + q[i]) / 2;
    bin.upper = last ? q[i] : (q[i] + q[i + 1]) / 2;
    if (!first && !last) {
      bin.asymmetry = (bin.upper - bin.level) - (bin.level - bin.lower);
      bin.bias = (2 * q[i] - q[i - 1] - q[i + 1]) / 4;
    }
    bins.push_back(bin);
  }
  return bins;
}

}  // namespace ufp4::analysis
