// What this machine's processor is and can.
#pragma once

#include <string>
#include <vector>

namespace ufp4::app {

// "AMD EPYC 9R14"; "unknown" where /proc/cpuinfo does not say.
std::string cpu_model();

// The processor's features that decide which kernels run and how fast: a selection of the flags in /proc/cpuinfo.
std::vector<std::string> cpu_features();

}  // namespace ufp4::app
