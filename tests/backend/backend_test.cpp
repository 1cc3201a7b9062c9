#include "ufp4/backend.h"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "backend/every_backend.h"
#include "ufp4/error.h"

namespace ufp4 {
namespace {

TEST(Backends, HaveUniqueNamesAndTheScalarOneAlways) {
  std::set<std::string_view> names;
  for (const Backend* backend : backends()) {
    EXPECT_TRUE(names.insert(backend->name()).second) << backend->name();
    EXPECT_FALSE(backend->description().empty()) << backend->name();
    EXPECT_EQ(backend->device().empty(), backend->name() != "cuda" || !backend->available()) << backend->name();
  }
  EXPECT_TRUE(find_backend("scalar").available());
}

TEST(Backends, AreFoundByName) {
  for (const Backend* backend : backends()) {
    if (backend->available()) {
      EXPECT_EQ(&find_backend(backend->name()), backend);
    } else {
      EXPECT_THROW(find_backend(backend->name()), InputError) << backend->name();
    }
  }
  EXPECT_TRUE(default_backend().available());
}

TEST(Backends, UnknownNameGetsANearOne) {
  try {
    find_backend("scalr");
    FAIL() << "no error";
  } catch (const InputError& error) {
    EXPECT_NE(std::string(error.what()).find("'scalar'"), std::string::npos) << error.what();
  }
}

UFP4_EVERY_BACKEND(Arguments);

TEST_P(Arguments, EmptyMatricesGiveEmptyOperands) {
  for (const Axis axis : {Axis::kRow, Axis::kColumn}) {
    float outer_scale = -1;
    QuantizeTask task = testing::task_of("e1m2", Rounding::kNearest, 16, axis);
    task.out.outer_scales = &outer_scale;
    for (const auto& [rows, columns] : {std::pair{0, 5}, {5, 0}, {0, 0}}) {
      outer_scale = -1;
      backend().quantize({nullptr, DType::kF32, rows, columns, columns}, std::span(&task, 1));
      EXPECT_EQ(outer_scale, 1);
    }
  }
  const ConstQuantized empty{.format = &find_format("e1m2"), .columns = 16};
  EXPECT_NO_THROW(backend().dequantize(empty, nullptr, DType::kF32));
}

TEST_P(Arguments, BadOnesAreRefused) {
  const testing::Matrix m(4, 16);
  testing::Results out(m.view(), testing::task_of("e1m2"));
  QuantizeTask task = out.writing();
  ConstMatrix view = m.view();
  view.row_stride = 15;
  EXPECT_THROW(backend().quantize(view, std::span(&task, 1)), InputError);
  view = m.view();
  view.data = nullptr;
  EXPECT_THROW(backend().quantize(view, std::span(&task, 1)), InputError);
  task.out.dequantized_dtype = DType::kF16;
  EXPECT_THROW(backend().quantize(m.view(), std::span(&task, 1)), InputError);
  task.out.dequantized_dtype = DType::kF32;
  task.spec.format = nullptr;
  EXPECT_THROW(backend().quantize(m.view(), std::span(&task, 1)), InputError);

  std::vector<float> memory(64);
  float* const dequantized = memory.data();
  const ConstQuantized good = out.operand();
  ConstQuantized bad = good;
  bad.columns = 15;
  EXPECT_THROW(backend().dequantize(bad, dequantized, DType::kF32), InputError);
  bad = good;
  bad.block = 8;
  EXPECT_THROW(backend().dequantize(bad, dequantized, DType::kF32), InputError);
  bad.block = -16;
  EXPECT_THROW(backend().dequantize(bad, dequantized, DType::kF32), InputError);
  bad = good;
  bad.format = nullptr;
  EXPECT_THROW(backend().dequantize(bad, dequantized, DType::kF32), InputError);
  bad = good;
  bad.codes = nullptr;
  EXPECT_THROW(backend().dequantize(bad, dequantized, DType::kF32), InputError);
  EXPECT_THROW(backend().dequantize(good, dequantized, DType::kF16), InputError);
  EXPECT_THROW(backend().dequantize(good, nullptr, DType::kF32), InputError);
  // Second-level scales that the format does not have would be read as those of the tensor.
  testing::Results segments(m.view(), testing::task_of("int4_i4"));
  for (const OuterScale other : {OuterScale::kTensor, OuterScale::k128x128, OuterScale::kOwn}) {
    bad = segments.operand();
    bad.outer = other;
    EXPECT_THROW(backend().dequantize(bad, dequantized, DType::kF32), InputError) << name_of(other);
  }
}

}  // namespace
}  // namespace ufp4
