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

std::string expected_bins_line(std::int64_t step, std::span<const OperandSpec> schemes, const Recipe& recipe) {
  std::vector<const BlockFormat*> formats;
  const auto add = [&](const BlockFormat* format) {
    if (format != nullptr && std::find(formats.begin(), formats.end(), format) == formats.end()) {
      formats.push_back(format);
    }
  };
  for (const GemmRecipe& gemm : recipe.gemm) {
    for (const OperandSpec& operand : gemm.operand) add(operand.format);
  }
  for (const OperandSpec& scheme : schemes) add(scheme.format);
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

void OperandAnalysis::operand(std::uint32_t number, OperandRole role, const at::Tensor& stored) {
  const GemmRecipe& part = recipe_[gemm_of(role)];
  at::Tensor values = stored.detach();
  if (!is_weight(role) && settings_.tokens > 0) {
    values = values.narrow(0, 0, std::min(settings_.tokens, values.size(0)));
  }
  values = values.contiguous().cpu();

  OperandReport report{linears_.at(number), part.name, part.operands[index_of(role)], false, {}};
  analysis::MatrixAnalysis analysis;
  analysis.threads = settings_.threads;
  const Axis axis = axis_of(role);
  analysis.place = {.seed = context_.seed, .step = context_.step, .stream = stream_of(number, role)};
  if (!is_weight(role)) {
    (axis == Axis::kRow ? analysis.place.row_offset : analysis.place.column_offset) = context_.token_offset;
  }
  const OperandSpec& own = part.operand[index_of(role)];
  if (own.quantized() && !recipe_.keeps_bf16(report.linear)) {
    report.quantized = true;
    analysis.schemes.push_back(own);
  }
  for (const OperandSpec& scheme : settings_.schemes) {
    if (std::find(analysis.schemes.begin(), analysis.schemes.end(), scheme) == analysis.schemes.end()) {
      analysis.schemes.push_back(scheme);
    }
  }
  report.figures = analysis::analyze_matrix(analysis::source_of(matrix_of(values), axis), analysis);
  sink_(report);
}

}  // namespace ufp4
