// The schemas of torch.ops.ufp4.linear and of what says which recipes and formats there are.
#pragma once

namespace torch {
class Library;
}

namespace ufp4::ops {

void define_linear(torch::Library& library);

}  // namespace ufp4::ops
