// The operators torch.ops.ufp4.*_quantize_both: quantize_both of what a layer makes of its inputs, in one kernel that
// does not write it where the device has such, with the same bits in any case. ops.cpp registers them; from C++ they
// are quantize_both of torch/operand.h.
#pragma once

namespace torch {
class Library;
}

namespace ufp4::ops {

void define_layer_operators(torch::Library& library);

// For tensors of memory or, with `Compute` false, for Meta tensors, which have shapes alone.
template <bool Compute>
void implement_layer_operators(torch::Library& library);
extern template void implement_layer_operators<true>(torch::Library& library);
extern template void implement_layer_operators<false>(torch::Library& library);

}  // namespace ufp4::ops
