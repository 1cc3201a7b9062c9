// Whether tests find a GPU that this build has kernels for.
#pragma once

#include "ufp4/backend.h"

namespace ufp4 {

inline bool gpu_usable() {
  for (const Backend* backend : backends()) {
    if (backend->name() == "cuda") return backend->available();
  }
  return false;
}

}  // namespace ufp4
