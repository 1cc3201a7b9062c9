// Cases that run once for each backend that this machine has.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "quantization/cases.h"
#include "quantization/matrix.h"
#include "quantization/results.h"
#include "ufp4/backend.h"

namespace ufp4 {

class EveryBackend : public ::testing::TestWithParam<const Backend*> {
 protected:
  const Backend& backend() const { return *GetParam(); }
};

inline std::vector<const Backend*> available_backends() {
  std::vector<const Backend*> list;
  for (const Backend* backend : backends()) {
    if (backend->available()) list.push_back(backend);
  }
  return list;
}

inline std::string name_of_case(const ::testing::TestParamInfo<const Backend*>& info) {
  return std::string(info.param->name());
}

}  // namespace ufp4

// NOLINTBEGIN(bugprone-macro-parentheses): the name of a type
#define UFP4_EVERY_BACKEND(suite)     \
  using suite = ::ufp4::EveryBackend; \
  INSTANTIATE_TEST_SUITE_P(, suite, ::testing::ValuesIn(::ufp4::available_backends()), ::ufp4::name_of_case)
// NOLINTEND(bugprone-macro-parentheses)
