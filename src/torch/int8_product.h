// The product of INT8 operands (numerics/int8_product.h) on tensors: the same bits on a CPU and on a GPU.
#pragma once

#include "numerics/int8_product.h"
#include "torch/products.h"

namespace ufp4::int8 {

// As the table of products takes them.
bool takes(const OperandSpec& a, const OperandSpec& b);
bool available(const at::Device& device);
void run(const ProductShape& shape, const QuantizedTensor& a, const QuantizedTensor& b, at::Tensor& out);

// What `run` computes, as the kernels are told; pointers are those of the tensors. Throws InputError for operands that
// are none.
Int8Product description_of(const ProductShape& shape, const QuantizedTensor& a, const QuantizedTensor& b,
                           at::Tensor& out);

}  // namespace ufp4::int8

// Only in a build with CUDA.
namespace ufp4::cuda_int8 {
bool available(const at::Device& device);
void run(const Int8Product& product);
}  // namespace ufp4::cuda_int8
