// Where a model runs.
#pragma once

#include <c10/core/Device.h>

#include <string>

namespace ufp4 {

// The device called "cpu", "cuda" or "auto" (cuda where there is one that this build has kernels for), with the
// settings of torch that results on it depend on. `setting` names what said so. Throws InputError for a device that is
// not there.
at::Device choose_device(const std::string& name, const std::string& setting);

}  // namespace ufp4
