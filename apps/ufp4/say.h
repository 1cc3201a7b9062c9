// What goes to standard error beside the log of a training.
#pragma once

#include <string_view>

namespace ufp4::app {

// A reader that is gone, or a standard error that is closed, ends nothing: the work goes on.
void say(std::string_view text);

}  // namespace ufp4::app
