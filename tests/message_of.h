// What an exception says.
#pragma once

#include <gtest/gtest.h>

#include <exception>
#include <string>

namespace ufp4 {

// The message of the exception of type Error that `action` throws.
template <typename Error, typename Action>
std::string message_of(Action&& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  } catch (const std::exception& error) {
    ADD_FAILURE() << "another exception than expected: " << error.what();
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return {};
}

}  // namespace ufp4
