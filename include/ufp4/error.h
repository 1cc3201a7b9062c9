// What the library throws. It never prints and never exits.
#pragma once

#include <stdexcept>
#include <string>

namespace ufp4 {

// Wrong input or usage: a name that does not exist, a shape that does not fit, a damaged file. The message names the
// thing, says what was found and what was expected. The program ends with exit code 2.
class InputError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Something failed while running: a disk is full, a device is out of memory. The program ends with exit code 1.
class RunError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace ufp4
