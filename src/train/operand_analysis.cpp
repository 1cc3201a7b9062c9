#include "train/operand_analysis.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "analysis/json.h"

#include "ufp4/error.h"

namespace ufp4 {
namespace {

using Json = nlohmann::ordered_json;

// The stream of an operand's random bits.
Operand stream_operand(Gemm gemm, std::size_t operand) {
  switch (gemm) {
    case Gemm::kFprop: return operand == 0 ? Operand::kFpropX : Operand::kFpropW;
    case Gemm::kDgrad: return operand == 0 ? Operand::kDgradDy : Operand::kDgradW;
    case Gemm::kWgrad: return operand == 0 ? Operand::kWgradDy : Operand::kWgradX;
  }
  return Operand::kFpropX;
}

}  // namespace

Json to_json(const OperandReport& report) {
  Json json{{"linear", report.linear}, {"gemm", report.gemm}, {"operand", report.operand}};
  json.update(analysis::to_json(report.figures));
  if (report.quantized) json["schemes"][0]["recipe"] = true;
  return json;
}

OperandAnalysis::Settings operand_settings(const std::vector<std::string>& formats, std::int64_t tokens) {
  std::vector<const BlockFormat*> list;
  list.reserve(formats.size());
  for (const std::string& name : formats) list.push_back(&find_format(name));
  return {analysis::schemes_of(list, 16), tokens, at::get_num_threads()};
}

std::string expected_bins_line(std::int64_t step, std::span<const analysis::Scheme> schemes, const Recipe& recipe) {
  std::vector<const BlockFormat*> formats;
  const auto add = [&](const BlockFormat* format) {
    if (format != nullptr && std::find(formats.begin(), formats.end(), format) == formats.end()) {
      formats.push_back(format);
    }
  };
  for (const GemmRecipe& gemm : recipe.gemm) {
    for (const OperandRecipe& operand : gemm.operand) add(operand.format);
  }
  for (const analysis::Scheme& scheme : schemes) add(scheme.format);
  Json list = Json::array();
  for (const BlockFormat* format : formats) list.push_back(analysis::expected_bins(*format));
  return Json{{"step", step}, {"formats", std::move(list)}}.dump();
}

std::string operand_line(std::int64_t step, const OperandReport& report) {
  Json json{{"step", step}};
  json.update(to_json(report));
  return json.dump();
}

ConstMatrix matrix_of(const at::Tensor& tensor) {
  const DType dtype = tensor.scalar_type() == at::kFloat ? DType::kF32 : DType::kBF16;
  return {tensor.const_data_ptr(), dtype, tensor.size(0), tensor.size(1), tensor.stride(0)};
}

OperandAnalysis::OperandAnalysis(const Recipe& recipe, std::vector<std::string> linears, Settings settings, Sink sink)
    : recipe_(recipe), linears_(std::move(linears)), settings_(std::move(settings)), sink_(std::move(sink)) {}

RandomContext OperandAnalysis::watch(const RandomContext& context) {
  context_ = context;
  context_.observer = this;
  return context_;
}

void OperandAnalysis::operand(std::uint32_t number, Gemm gemm, std::size_t operand, const at::Tensor& stored,
                              Axis axis) {
  const GemmRecipe& part = recipe_[gemm];
  const bool weight = part.operands[operand] == "w";
  at::Tensor values = stored.detach();
  if (!weight && settings_.tokens > 0) values = values.narrow(0, 0, std::min(settings_.tokens, values.size(0)));
  values = values.contiguous().cpu();

  OperandReport report{linears_.at(number), part.name, part.operands[operand], false, {}};
  analysis::MatrixAnalysis analysis;
  analysis.threads = settings_.threads;
  analysis.hadamard_seed = context_.seed;
  analysis.random = {context_.seed, context_.step, stream_of(number, stream_operand(gemm, operand)), 0, 0};
  if (!weight)
    (axis == Axis::kRow ? analysis.random.row_offset : analysis.random.column_offset) = context_.token_offset;
  const OperandRecipe& own = part.operand[operand];
  if (own.quantized() && !recipe_.keeps_bf16(report.linear)) {
    report.quantized = true;
    analysis.schemes.push_back({own.format, part.hadamard, own.block, own.rounding});
  }
  for (const analysis::Scheme& scheme : settings_.schemes) {
    if (std::find(analysis.schemes.begin(), analysis.schemes.end(), scheme) == analysis.schemes.end()) {
      analysis.schemes.push_back(scheme);
    }
  }
  report.figures = analysis::analyze_matrix(analysis::source_of(matrix_of(values), axis), analysis);
  sink_(report);
}

}  // namespace ufp4
