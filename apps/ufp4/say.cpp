#include "say.h"

#include <cstdio>

namespace ufp4::app {

void say(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stderr);
  std::fflush(stderr);
}

}  // namespace ufp4::app
