// The arguments of torch.ops.ufp4.*: the parts that their schemas share, and from those names and numbers to requests
// for operands. What is wrong is told by InputError under the name that the schema gives it.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>

#include "torch/operand.h"

namespace ufp4::ops {

std::string dtype_name(at::ScalarType type);

void check_matrix(std::string_view name, const at::Tensor& t);

// An integer from 0 to `largest`.
std::uint32_t to_u32(std::string_view name, std::int64_t value,
                     std::int64_t largest = std::numeric_limits<std::uint32_t>::max());

// A block size, 0 for the format's own, or the size of a transform, 0 for none. Which of them exist spec_of knows.
int to_size(std::string_view name, std::int64_t value);

// The end of the schemas of operators that give one operand, and what it says; offsets are in the operand's
// coordinates.
inline constexpr std::string_view kOneArguments =
    "str format, *, int block=0, str axis=\"row\", int hadamard=0, int hadamard_seed=0, str rounding=\"rtne\", "
    "int seed=0, int step=0, int stream=0, int row_offset=0, int column_offset=0, str outer=\"own\", float tau=0, "
    "Tensor? step_tensor=None";

// The request that they make; its form is the operator's to say.
OperandRequest one_request(std::string_view format, std::int64_t block, std::string_view axis, std::int64_t hadamard,
                           std::int64_t hadamard_seed, std::string_view rounding, std::int64_t seed, std::int64_t step,
                           std::int64_t stream, std::int64_t row_offset, std::int64_t column_offset,
                           std::string_view outer, double tau, const std::optional<at::Tensor>& step_tensor);

// The same of operators that give both orientations; offsets are those of the matrix.
inline constexpr std::string_view kBothArguments =
    "str row_format, str column_format, *, int row_block=0, int column_block=0, int row_hadamard=0, "
    "int column_hadamard=0, str row_rounding=\"rtne\", str column_rounding=\"rtne\", int row_stream=0, "
    "int column_stream=0, str row_outer=\"own\", str column_outer=\"own\", float row_tau=0, "
    "float column_tau=0, int hadamard_seed=0, int seed=0, int step=0, int row_offset=0, int column_offset=0, "
    "bool packed=True, Tensor? step_tensor=None";
inline constexpr std::string_view kBothResults =
    "(Tensor row, Tensor column, Tensor column_scales, Tensor column_outer_scales)";

// The row operand is dequantized to BF16, the column operand packed or dequantized likewise.
struct BothRequests {
  OperandRequest row;
  OperandRequest column;
};
BothRequests both_requests(std::string_view row_format, std::string_view column_format, std::int64_t row_block,
                           std::int64_t column_block, std::int64_t row_hadamard, std::int64_t column_hadamard,
                           std::string_view row_rounding, std::string_view column_rounding, std::int64_t row_stream,
                           std::int64_t column_stream, std::string_view row_outer, std::string_view column_outer,
                           double row_tau, double column_tau, std::int64_t hadamard_seed, std::int64_t seed,
                           std::int64_t step, std::int64_t row_offset, std::int64_t column_offset, bool packed,
                           const std::optional<at::Tensor>& step_tensor);
using BothResults = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

// The results as torch wants them: empty tensors stand for what the column operand does not have.
BothResults both_results(const BothOperands& both);

// The function that torch calls for such an operator: it takes the inputs of `Operator` and then the arguments of
// both_requests one by one.
template <auto Operator, typename = std::decay_t<decltype(Operator)>, typename = decltype(&both_requests)>
struct BothKernel;

template <auto Operator, typename... Inputs, typename... Arguments>
struct BothKernel<Operator, BothResults (*)(const BothRequests&, Inputs...), BothRequests (*)(Arguments...)> {
  static BothResults call(Inputs... inputs, Arguments... arguments) {
    return Operator(both_requests(arguments...), inputs...);
  }
};

}  // namespace ufp4::ops
