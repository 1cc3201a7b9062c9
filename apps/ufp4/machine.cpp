#include "machine.h"

#include <array>
#include <fstream>
#include <initializer_list>
#include <set>
#include <sstream>
#include <string_view>

namespace ufp4::app {
namespace {

// The value of the first line of /proc/cpuinfo that begins with one of `keys`.
std::string cpuinfo(std::initializer_list<std::string_view> keys) {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    for (const std::string_view key : keys) {
      const std::size_t colon = line.find(": ");
      if (line.starts_with(key) && colon != std::string::npos) return line.substr(colon + 2);
    }
  }
  return {};
}

}  // namespace

std::string cpu_model() {
  const std::string model = cpuinfo({"model name"});
  return model.empty() ? "unknown" : model;
}

std::vector<std::string> cpu_features() {
  static constexpr std::array<std::string_view, 18> kThatMatter{
      "sse4_1",      "avx2",        "fma",         "f16c", "avx512f",     "avx512bw",
      "avx512_vnni", "avx512_bf16", "avx512_fp16", "gfni", "avx512_vbmi", "amx_tile",
      "amx_bf16",    "asimd",       "bf16",        "i8mm", "sve",         "sve2"};
  std::istringstream words(cpuinfo({"flags", "Features"}));
  std::set<std::string, std::less<>> present;
  for (std::string word; words >> word;) present.insert(word);
  std::vector<std::string> features;
  for (const std::string_view feature : kThatMatter) {
    if (present.contains(feature)) features.emplace_back(feature);
  }
  return features;
}

}  // namespace ufp4::app
