#include "torch/phase.h"

#ifdef UFP4_HAVE_CUDA
#include <nvtx3/nvToolsExt.h>
#endif

namespace ufp4 {

#ifdef UFP4_HAVE_CUDA
Phase::Phase(const char* name) { nvtxRangePushA(name); }
Phase::~Phase() { nvtxRangePop(); }
#else
Phase::Phase(const char* /*name*/) {}
Phase::~Phase() = default;
#endif

}  // namespace ufp4
