#include "analysis/tensor_file.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <limits>
#include <vector>

#include "analysis/distribution.h"

namespace ufp4::analysis {
namespace {

struct FileReport {
  std::vector<TensorReport> tensors;
  std::vector<std::string> skipped;
};

class TensorFile : public ::testing::Test {
 protected:
  ~TensorFile() override { std::filesystem::remove(path_); }

  void write(const std::vector<io::TensorSpec>& specs, const std::vector<std::vector<float>>& data) {
    io::SafetensorsWriter writer(path_, specs);
    for (std::size_t i = 0; i < specs.size(); ++i) writer.write(i, std::as_bytes(std::span(data[i])));
    writer.commit();
  }
  FileReport analyze(const FileAnalysis& analysis) const {
    FileReport report;
    analyze_file(io::SafetensorsReader(path_), analysis,
                 {[&](const TensorReport& tensor) { report.tensors.push_back(tensor); },
                  [&](const std::string& tensor) { report.skipped.push_back(tensor); }});
    return report;
  }

  std::filesystem::path path_ =
      std::filesystem::temp_directory_path() / ("ufp4_tensor_file_" + std::to_string(::getpid()));
};

FileAnalysis all_schemes() {
  FileAnalysis analysis;
  for (const BlockFormat& format : formats()) {
    analysis.schemes.push_back({.format = &format});
    analysis.schemes.push_back({.format = &format, .hadamard = {.size = 16}});
  }
  return analysis;
}

TEST_F(TensorFile, FiguresDoNotDependOnThreads) {
  std::vector<float> values(std::size_t{300} * 1000);
  Distribution("student3").sample(values, 3, 0);
  write({{"w", io::TensorType::kF32, {300, 1000}}}, {values});
  FileAnalysis analysis = all_schemes();
  const FileReport one = analyze(analysis);
  analysis.threads = 3;
  const FileReport three = analyze(analysis);
  ASSERT_EQ(one.tensors.size(), 1u);
  for (std::size_t i = 0; i < analysis.schemes.size(); ++i) {
    const Figures& a = one.tensors[0].schemes[i].figures;
    const Figures& b = three.tensors[0].schemes[i].figures;
    EXPECT_NEAR(a.nmse, b.nmse, 1e-12) << analysis.schemes[i].format->name;
    EXPECT_EQ(a.bucket_ratio, b.bucket_ratio);
    EXPECT_EQ(a.level_share, b.level_share);
  }
}

// SwiGLU-like data: the reversal of the paper's Q1, by the figures of docs/numerics.md.
TEST_F(TensorFile, TheTransformReversesTheOrderOnSwigluData) {
  std::vector<float> a(std::size_t{2000} * 512);
  std::vector<float> b(a.size());
  Distribution("normal").sample(a, 1, 0);
  Distribution("normal").sample(b, 2, 0);
  for (std::size_t i = 0; i < a.size(); ++i) a[i] = a[i] / (1 + std::exp(-a[i])) * b[i];
  write({{"fc2.x", io::TensorType::kF32, {2000, 512}}}, {a});
  FileAnalysis analysis;
  for (const char* name : {"e2m1", "e1m2"}) {
    for (const int size : {0, 16}) {
      analysis.schemes.push_back({.format = &find_format(name), .hadamard = {.size = size}});
    }
  }
  const TensorReport report = analyze(analysis).tensors.at(0);
  const std::vector<double> expected{21.13, 20.06, 18.71, 22.73};
  for (std::size_t i = 0; i < 4; ++i) EXPECT_NEAR(report.schemes[i].figures.sqnr_db(), expected[i], 0.03);
  EXPECT_NEAR(report.schemes[2].figures.bucket_ratio, 0.52, 0.01);
  EXPECT_NEAR(report.schemes[3].figures.bucket_ratio, 0.96, 0.01);
}

TEST_F(TensorFile, OddTensorsHaveDefinedFigures) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> hostile(std::size_t{3} * 20, 1.0F);
  hostile[5] = nan;
  hostile[25] = -std::numeric_limits<float>::infinity();
  write({{"empty", io::TensorType::kF32, {0, 8}},
         {"hostile", io::TensorType::kF32, {3, 20}},
         {"vector", io::TensorType::kF32, {7}},
         {"zeros", io::TensorType::kF32, {2, 3, 5}}},
        {{}, hostile, std::vector<float>(7, 1.0F), std::vector<float>(30, 0.0F)});
  const FileReport report = analyze(all_schemes());
  ASSERT_EQ(report.skipped, std::vector<std::string>{"vector: F32 [7]"});
  for (const TensorReport& tensor : report.tensors) {
    for (const SchemeFigures& s : tensor.schemes) {
      EXPECT_TRUE(std::isfinite(s.figures.nmse)) << tensor.name << " " << s.scheme.format->name;
      EXPECT_TRUE(std::isfinite(s.figures.alpha)) << tensor.name << " " << s.scheme.format->name;
    }
    if (tensor.name == "hostile") {
      EXPECT_EQ(tensor.nonfinite, 2);
      EXPECT_EQ(tensor.amax, 1);
    }
    if (tensor.name == "zeros") {
      EXPECT_EQ(tensor.rows, 6);
      EXPECT_EQ(tensor.crest(), 0);
    }
  }
}

}  // namespace
}  // namespace ufp4::analysis
