// Where a model runs.
#pragma once

#include <c10/core/Device.h>

#include <span>
#include <string>

#include "model/model_config.h"
#include "ufp4/recipe.h"

namespace ufp4 {

struct DeviceChoice {
  at::Device device;
  std::string note;  // for the log: why "auto" took the CPU; else empty

  std::string name() const { return device.is_cpu() ? "cpu" : "cuda"; }
};

// The device called "cpu", "cuda" or "auto" (cuda where there is one whose kernels serve the model under all of the
// recipes), with the settings of torch that results on it depend on. `setting` names what said so. Throws InputError
// for a device that is not there or does not serve.
DeviceChoice choose_device(const std::string& name, const std::string& setting, const ModelConfig& model,
                           std::span<const Recipe> recipes);

}  // namespace ufp4
