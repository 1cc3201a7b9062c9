#include "train/peak.h"

namespace ufp4 {
namespace {

struct Row {
  std::string_view part;  // of the device's name; the first row that fits counts
  double tflops;
};

// From the data sheets, without sparsity.
constexpr Row kRows[] = {
    {"GB200", 2500},     {"B200", 2250},     {"B100", 1750},  {"GH200", 989.4},    {"H200 NVL", 835.5}, {"H200", 989.4},
    {"H100 NVL", 835.5}, {"H100 PCIe", 756}, {"H100", 989.4}, {"H800", 989.4},     {"A100", 312},       {"A800", 312},
    {"L40S", 362},       {"L40", 181},       {"A40", 149.7},  {"RTX 4090", 165.2}, {"RTX 3090", 71},
};

}  // namespace

std::optional<double> peak_bf16_tflops(std::string_view name) {
  for (const Row& row : kRows) {
    if (name.find(row.part) != std::string_view::npos) return row.tflops;
  }
  return std::nullopt;
}

}  // namespace ufp4
