// Names of what an operand chooses, and operands whose parts do not fit together.
#include "ufp4/operand.h"

#include <gtest/gtest.h>

#include <array>
#include <string>

#include "message_of.h"
#include "ufp4/error.h"
#include "ufp4/format.h"

namespace ufp4 {
namespace {

std::string refusal(const OperandSpec& spec) {
  return message_of<InputError>([&] { validate(spec); });
}

void expect_mentions(const std::string& message, std::initializer_list<std::string_view> parts) {
  for (const std::string_view part : parts) {
    EXPECT_NE(message.find(part), std::string::npos) << "'" << part << "' is not in: " << message;
  }
}

TEST(Operand, ChoicesAreFoundByTheirNames) {
  for (const Rounding rounding : {Rounding::kNearest, Rounding::kStochastic}) {
    EXPECT_EQ(find_rounding(name_of(rounding)), rounding);
  }
  for (const Axis axis : {Axis::kRow, Axis::kColumn}) EXPECT_EQ(find_axis(name_of(axis)), axis);
  for (const OuterScale outer : kOuterScales) EXPECT_EQ(find_outer_scale(name_of(outer)), outer);
  EXPECT_EQ(find_rounding("sr"), Rounding::kStochastic);
  EXPECT_EQ(find_axis("column"), Axis::kColumn);
  EXPECT_EQ(find_outer_scale("1x128"), OuterScale::k1x128);
}

TEST(Operand, UnknownNamesAreToldTheKnownOnes) {
  expect_mentions(message_of<InputError>([] { find_rounding("nearest"); }),
                  {"rounding", "'nearest'", "'rtne'", "'sr'"});
  expect_mentions(message_of<InputError>([] { find_axis("Row"); }), {"axis", "'Row'", "'row'", "'column'"});
  expect_mentions(message_of<InputError>([] { find_outer_scale("1x12"); }), {"outer scale", "'1x12'", "'1x128'"});
  expect_mentions(message_of<InputError>([] { find_outer_scale("everything"); }),
                  {"'everything'", "tensor", "row", "1x128", "128x128"});
  for (const char* name : {"", " ", "rtne ", "RTNE"}) EXPECT_THROW(find_rounding(name), InputError) << name;
}

TEST(Operand, TheLibrarysOwnFormatsAreValid) {
  for (const BlockFormat& format : formats()) {
    EXPECT_NO_THROW(validate(OperandSpec{.format = &format})) << format.name;
    EXPECT_NO_THROW(validate(OperandSpec{.format = &format, .block = format.block, .hadamard = {.size = 128}}))
        << format.name;
    EXPECT_EQ((OperandSpec{.format = &format}.block_size()), format.block);
  }
  EXPECT_FALSE(OperandSpec{}.quantized());
  EXPECT_TRUE(OperandSpec{.format = &find_format("e1m2")}.quantized());
}

TEST(Operand, BlocksAndTransformsThatThereAreNot) {
  const BlockFormat* const e1m2 = &find_format("e1m2");
  expect_mentions(refusal({}), {"no format"});
  for (const int block : {-16, 1, 8, 24, 256}) {
    expect_mentions(refusal({.format = e1m2, .block = block}), {std::to_string(block), "16, 32, 64, 128"});
  }
  for (const int size : {-16, 1, 8, 48, 256}) {
    expect_mentions(refusal({.format = e1m2, .hadamard = {.size = size}}), {std::to_string(size), "16, 32, 64, 128"});
  }
  expect_mentions(refusal({.format = &find_format("hif4"), .block = 16}), {"'hif4'", "64", "16"});
  expect_mentions(refusal({.format = &find_format("mixfp4"), .block = 32}), {"'mixfp4'", "16", "32"});
}

// A second-level scale that is finer than the tensor's, for exactly the formats whose row of the table has it.
TEST(Operand, SecondLevelScalesThatAFormatDoesNotHave) {
  for (const BlockFormat& format : formats()) {
    for (const OuterScale each : kOuterScales) {
      const OperandSpec spec{.format = &format, .outer = {.each = each}};
      // The name of what formats have by themselves may be given to one without a second level.
      const bool none = each == OuterScale::kTensor && !format.has_outer_scale();
      if (none || format.outer_scales.has(each)) {
        EXPECT_NO_THROW(validate(spec)) << format.name << " " << name_of(each);
      } else {
        expect_mentions(refusal(spec), {format.name, name_of(each)});
      }
    }
    EXPECT_EQ(format.outer_scales.empty(), !format.has_outer_scale()) << format.name;
    EXPECT_NO_THROW(validate(OperandSpec{.format = &format})) << format.name;
    EXPECT_EQ(OperandSpec{.format = &format}.outer_each(), format.own_outer);
  }
}

TEST(Operand, ADelayedAmaxNeedsAWindowAndOneScale) {
  const OuterSpec delayed{.amax = AmaxSource::kDelayed};
  for (const BlockFormat& format : formats()) {
    const OperandSpec spec{.format = &format, .outer = delayed};
    if (format.has_window()) {
      EXPECT_NO_THROW(validate(spec)) << format.name;
    } else {
      expect_mentions(refusal(spec), {"delayed", "int4_p2", "exact"});
    }
  }
  for (const OuterScale each : {OuterScale::kRow, OuterScale::k1x128, OuterScale::k128x128}) {
    const OperandSpec spec{.format = &find_format("int4_p2"), .outer = {each, AmaxSource::kDelayed}};
    expect_mentions(refusal(spec), {"delayed", "tensor"});
  }
}

TEST(Operand, TauIsForFormatsWithAWindow) {
  for (const BlockFormat& format : formats()) {
    for (const float tau : {1.0F, 1.125F}) {
      const OperandSpec spec{.format = &format, .options = {.tau = tau}};
      if (format.has_window()) {
        EXPECT_NO_THROW(validate(spec)) << format.name;
      } else {
        expect_mentions(refusal(spec), {format.name, "tau", "int4_p2"});
      }
    }
  }
  for (const float tau : {-1.0F, 0.5F, 1.25F, 2.0F}) {
    expect_mentions(refusal({.format = &find_format("int4_p2"), .options = {.tau = tau}}), {"'int4_p2'", "tau", "9/8"});
  }
}

TEST(Operand, RowsHaveTheNumbersThatThePlaceGivesThem) {
  Place place{.row_offset = 0xFFFFFFFEu};
  EXPECT_EQ(place.row_number(1), 0xFFFFFFFFu);
  EXPECT_EQ(place.row_number(3), 1u);
  const std::array<std::uint32_t, 2> numbers{17, 4};
  place.row_numbers = numbers.data();
  EXPECT_EQ(place.row_number(0), 17u);
  EXPECT_EQ(place.row_number(1), 4u);
}

}  // namespace
}  // namespace ufp4
