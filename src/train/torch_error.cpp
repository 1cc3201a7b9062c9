#include "train/torch_error.h"

#include <algorithm>

#include "ufp4/error.h"

namespace ufp4 {

void throw_plain(const c10::Error& error, const std::string& what_helps) {
  const std::string message = error.what_without_backtrace();
  const bool device_memory = dynamic_cast<const c10::OutOfMemoryError*>(&error) != nullptr ||
                             message.find("CUDA error: out of memory") != std::string::npos;
  const std::size_t host_memory = message.find("DefaultCPUAllocator: ");
  if (!device_memory && host_memory == std::string::npos) {
    throw RunError("torch: " + message.substr(0, message.find('\n')));
  }
  // It begins with what was asked for and how much there is; the advice on torch's own settings goes.
  const std::string said = message.substr(host_memory == std::string::npos ? 0 : host_memory);
  std::string sentence = said.substr(0, std::min(said.find(" If reserved but unallocated"), said.find('\n')));
  if (!sentence.ends_with('.')) sentence += '.';
  throw RunError(sentence + " What helps: " + what_helps);
}

}  // namespace ufp4
