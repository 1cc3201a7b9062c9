// Where a model runs.
#pragma once

#include <c10/core/Device.h>

#include <span>
#include <string>

#include "config/run_config.h"

namespace ufp4 {

struct DeviceChoice {
  at::Device device;
  std::string note;  // for the log: why "auto" took the CPU; else empty

  DeviceKind kind() const { return device.is_cpu() ? DeviceKind::kCpu : DeviceKind::kCuda; }
  std::string name() const { return std::string(choice_name(kind())); }
};

// The device asked for, or with kAuto cuda where there is one whose kernels serve the model under all of the recipes,
// with the settings of torch that results on it depend on. `setting` names what said so. Throws InputError
// for a device that is not there or does not serve.
DeviceChoice choose_device(DeviceKind asked, const std::string& setting, const ModelConfig& model,
                           std::span<const Recipe> recipes);

}  // namespace ufp4
