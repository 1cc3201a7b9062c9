#include "torch/phase.h"

#ifdef UFP4_HAVE_CUDA
#include <nvtx3/nvToolsExt.h>
#endif

namespace ufp4 {

#ifdef UFP4_HAVE_CUDA
void Phase::begin(const char* name) { nvtxRangePushA(name); }
void Phase::end() { nvtxRangePop(); }
#else
void Phase::begin(const char* /*name*/) {}
void Phase::end() {}
#endif

}  // namespace ufp4
