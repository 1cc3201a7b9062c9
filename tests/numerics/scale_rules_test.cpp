// The scale rules of the neighbouring formats, on values whose scales and codes follow by hand from docs/numerics.md.
#include "numerics/scale_rules.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "numerics/reference.h"
#include "ufp4/dtype.h"
#include "ufp4/format.h"

namespace ufp4::reference {
namespace {

OperandSpec spec_of(const BlockFormat& format) {
  OperandSpec spec;
  spec.format = &format;
  return spec;
}

Block quantize(const char* format, std::vector<float> values, float outer_amax) {
  values.resize(static_cast<std::size_t>(find_format(format).block), 0.0F);
  return quantize_block(values, spec_of(find_format(format)), {}, outer_amax);
}

TEST(ScaleRules, NonFiniteBlocksAreNanInEveryFormat) {
  for (const BlockFormat& format : formats()) {
    std::vector<float> values(static_cast<std::size_t>(format.block), 1.0F);
    values[3] = std::numeric_limits<float>::infinity();
    const Block block = quantize_block(values, spec_of(format), {}, 1);
    if (format.scale == ScaleEncoding::kInt8) {
      EXPECT_EQ(block.scale, 0) << format.name;  // the second-level scale is NaN
      EXPECT_TRUE(std::isnan(outer_scale(format, outer_magnitude(format, values)))) << format.name;
    } else {
      EXPECT_TRUE(std::isnan(block.scale)) << format.name;
    }
    for (const std::uint8_t code : block.codes) EXPECT_EQ(code, 0) << format.name;
  }
}

TEST(ScaleRules, ZeroBlocksHaveCodesZero) {
  for (const BlockFormat& format : formats()) {
    for (const float outer : {0.0F, 5.0F}) {
      const std::vector<float> zeros(static_cast<std::size_t>(format.block), 0.0F);
      const Block block = quantize_block(zeros, spec_of(format), {}, outer);
      for (const std::uint8_t code : block.codes) EXPECT_EQ(code, 0) << format.name;
      EXPECT_FALSE(std::isnan(block.scale)) << format.name;
    }
  }
}

TEST(ScaleRules, Nvfp4ScalesRelativeToTheTensor) {
  // The tensor's largest gets scale 448; a block of a fourth of it 112.
  EXPECT_EQ(quantize("nvfp4", {6}, 6).scale, 448);
  const Block block = quantize("nvfp4", {1.5F, -0.75F, 0.25F, 0.125F}, 6);
  EXPECT_EQ(block.scale, 112);
  EXPECT_EQ(block.codes[0], 7);
  EXPECT_EQ(block.codes[1], 8 + 5);
  EXPECT_EQ(block.codes[2], 2);
  EXPECT_EQ(block.codes[3], 1);
  EXPECT_EQ(outer_scale(find_format("nvfp4"), 6), 6.0F / 2688);
}

TEST(ScaleRules, Nvfp4KeepsTheCodesOfABlockWhoseScaleUnderflows) {
  const Block block = quantize("nvfp4", {1e-9F}, 6);  // 1e-9 * 448 / 6 is far below half of 2^-9
  EXPECT_EQ(block.scale, 0);
  EXPECT_EQ(block.codes[0], 7);
}

TEST(ScaleRules, Nvint4IsZeroWhereItsScaleUnderflows) {
  const Block block = quantize("nvint4", {1e-9F}, 6);
  EXPECT_EQ(block.scale, 0);
  EXPECT_EQ(block.codes[0], 0);
  const Block largest = quantize("nvint4", {7, -3, 0.5F, 1.5F}, 7);
  EXPECT_EQ(largest.scale, 448);
  EXPECT_EQ(largest.codes[0], 7);
  EXPECT_EQ(largest.codes[1], 13);
  EXPECT_EQ(largest.codes[2], 0);  // ties to even
  EXPECT_EQ(largest.codes[3], 2);
}

TEST(ScaleRules, Mxfp4TakesTheExponentFieldAndSaturates) {
  const Block block = quantize("mxfp4", {7.9F, -5.0F, 0.3F}, 0);
  EXPECT_EQ(block.scale, 1);         // 2^(2 - 2)
  EXPECT_EQ(block.codes[0], 7);      // saturates at 6
  EXPECT_EQ(block.codes[1], 8 + 6);  // 5 is a tie of 4 and 6: to the even code
  EXPECT_EQ(block.codes[2], 1);
  EXPECT_EQ(quantize("mxfp4", {}, 0).scale, 0x1p-127F);
  EXPECT_EQ(quantize("mxfp4", {std::numeric_limits<float>::max()}, 0).scale, 0x1p125F);
}

TEST(ScaleRules, Mxint4RoundsToQuarters) {
  const Block block = quantize("mxint4", {1.999F, -0.375F, 0.125F}, 0);
  EXPECT_EQ(block.scale, 1);
  EXPECT_EQ(block.codes[0], 7);   // largest 1.75
  EXPECT_EQ(block.codes[1], 14);  // a tie of 1 and 2 quarters: to the even
  EXPECT_EQ(block.codes[2], 0);
  // One ulp below a power of two the exponent is the lower one, exactly.
  EXPECT_EQ(quantize("mxint4", {std::nextafter(8.0F, 0.0F)}, 0).scale, 4);
}

TEST(ScaleRules, FourOverSixTakesTheScaleWithTheSmallerError) {
  // 4 and 3 lie on the grid scaled to 4, 6 and 4 on that scaled to 6; a tie keeps 6.
  const Block four = quantize("four_over_six", {4, 3, 3, 3}, 1536);
  EXPECT_EQ(four.scale, 1);
  EXPECT_EQ(four.codes[0], 6);
  EXPECT_EQ(four.codes[1], 5);
  const Block six = quantize("four_over_six", {6, 4, 4, 4}, 1536);
  EXPECT_EQ(six.scale, 1);
  EXPECT_EQ(six.codes[0], 7);
  const Block tie = quantize("four_over_six", {6}, 1536);
  EXPECT_EQ(tie.scale, 1);
  EXPECT_EQ(tie.codes[0], 7);
}

TEST(ScaleRules, Mixfp4ChoosesAGridForTheBlock) {
  const Block uniform = quantize("mixfp4", {7, 5, -5, 3}, 2688);
  EXPECT_EQ(uniform.selectors[0], 1);
  EXPECT_EQ(uniform.scale, 1);
  EXPECT_EQ(uniform.codes[1], 5);
  EXPECT_EQ(uniform.codes[2], 8 + 5);
  const Block floating = quantize("mixfp4", {6, 0.5F, -0.5F, 1.5F}, 2688);
  EXPECT_EQ(floating.selectors[0], 0);
  EXPECT_EQ(floating.codes[1], 1);
  EXPECT_EQ(element_value(find_format("mixfp4"), 5, 2, 1), 10);
  EXPECT_EQ(element_value(find_format("mixfp4"), 5, 2, 0), 6);
}

TEST(ScaleRules, Int4P2ScalesArePowersOfTwoAndOperandsExactE4m3) {
  const BlockFormat& format = find_format("int4_p2");
  const float outer_amax = 224;  // the outer scale is 1
  for (int trial = 0; trial < 200; ++trial) {
    std::vector<float> values(16);
    for (std::size_t i = 0; i < 16; ++i) {
      values[i] = std::sin(static_cast<float>(trial * 16) + static_cast<float>(i)) * std::ldexp(1.0F, trial % 20 - 12);
    }
    const Block block = quantize_block(values, spec_of(format), {}, outer_amax);
    int exponent = 0;
    EXPECT_EQ(std::fabs(std::frexp(block.scale, &exponent)), 0.5F);
    EXPECT_GE(exponent - 1, -9);
    EXPECT_LE(exponent - 1, 5);
    for (std::size_t i = 0; i < 16; ++i) {
      const float operand = element_value(format, block.codes[i], block.scale, 0);
      EXPECT_EQ(e4m3_to_float(float_to_e4m3(operand)), operand);
    }
  }
  EXPECT_EQ(quantize("int4_p2", {16, -14}, outer_amax).scale, -2);  // 16 is -8 * -2
  EXPECT_EQ(quantize("int4_p2", {16, -14}, outer_amax).codes[0], 8);
  EXPECT_EQ(outer_scale(format, 0x1p-111F), 0);
}

TEST(ScaleRules, Int4I4ScalesAreIntegersAndOperandsExactInt8) {
  const BlockFormat& format = find_format("int4_i4");
  const float outer = 15;  // the outer scale is 1
  EXPECT_EQ(outer_scale(format, outer), 1);
  for (int trial = 0; trial < 300; ++trial) {
    std::vector<float> values(16);
    for (std::size_t i = 0; i < 16; ++i) {
      values[i] =
          100 * std::sin(static_cast<float>(trial * 16) + static_cast<float>(i)) * std::ldexp(1.0F, -(trial % 9));
    }
    const Block block = quantize_block(values, spec_of(format), {}, outer);
    EXPECT_EQ(block.scale, std::nearbyint(block.scale));
    EXPECT_GE(std::fabs(block.scale), 1);
    EXPECT_LE(std::fabs(block.scale), 15);
    for (std::size_t i = 0; i < 16; ++i) {
      const float operand = element_value(format, block.codes[i], block.scale, 0);
      EXPECT_EQ(operand, std::nearbyint(operand));
      EXPECT_LE(std::fabs(operand), 120);
      // Within half a step, or clipped by what the lowered multiple costs the extremes.
      EXPECT_LE(std::fabs(operand - values[i]), 0.5F * std::fabs(block.scale) + std::fabs(values[i]) * 0.1F);
    }
  }
  // f of {16, -14} is 2: the larger extreme takes the code -8 under a negative scale. f = 2.25 is lowered by 0.21 to a
  // multiple of 3; 10.6 by 0.5 and not by 0.99; at most 15.
  EXPECT_EQ(quantize("int4_i4", {16, -14}, outer).scale, -2);
  EXPECT_EQ(quantize("int4_i4", {16, -14}, outer).codes[0], 8);
  EXPECT_EQ(quantize("int4_i4", {-18, 0}, outer).scale, 3);
  EXPECT_EQ(quantize("int4_i4", {-17.5F, 0}, outer).scale, 2);
  EXPECT_EQ(quantize("int4_i4", {-84.8F, 0}, outer).scale, 11);
  EXPECT_EQ(quantize("int4_i4", {-150, 0}, outer).scale, 15);
  EXPECT_EQ(quantize("int4_i4", {-0.01F, 0}, outer).scale, 1);
  // Stochastic rounding lowers nothing.
  const std::vector<std::uint32_t> draws(2, 0);
  EXPECT_EQ(quantize_block(std::vector<float>{-17, 0}, spec_of(format), draws, outer).scale, 3);
  // Below their least sizes a segment and a block are zero.
  EXPECT_EQ(outer_scale(format, 0x1p-111F), 0);
  EXPECT_EQ(quantize_block(std::vector<float>{1, 0}, spec_of(format), {}, 0x1p-111F).scale, 0);
  EXPECT_EQ(quantize("int4_i4", {0x1p-118F, 0}, 0x1p-109F).scale, 0);
}

TEST(ScaleRules, MagnitudesOfASegmentKeepThatABlockIsNotFinite) {
  const BlockFormat& format = find_format("int4_i4");
  const float bad = outer_magnitude(format, std::vector<float>{1, std::numeric_limits<float>::quiet_NaN()});
  EXPECT_TRUE(std::signbit(bad));
  EXPECT_EQ(outer_magnitude(format, std::vector<float>{16, -14}), 2);
  for (const float found : {raised(raised(3, bad), 5), raised(bad, 5), raised(5, bad)}) {
    EXPECT_EQ(found, -5);
    EXPECT_TRUE(std::isnan(outer_scale(format, found)));
  }
  EXPECT_EQ(raised(3, 5), 5);
  EXPECT_FALSE(std::signbit(outer_magnitude(find_format("int4_p2"), std::vector<float>{1, INFINITY})));
}

TEST(ScaleRules, Hif4UsesTheExponentsOfItsParts) {
  std::vector<float> values(64, 0.0F);
  values[0] = 7;      // SF = 1
  values[9] = 1.75F;  // no exponent needed
  values[20] = 3.5F;
  const Block block = quantize_block(values, spec_of(find_format("hif4")), {}, 0);
  EXPECT_EQ(block.scale, 1);
  EXPECT_EQ(block.selectors[0], 2);  // 7 = 1.75 * 2 * 2
  EXPECT_EQ(block.codes[0], 7);
  EXPECT_EQ(block.selectors[2], 0);
  EXPECT_EQ(block.codes[9], 7);
  EXPECT_EQ(block.selectors[5], 1);
  EXPECT_EQ(block.codes[20], 7);
  EXPECT_EQ(element_value(find_format("hif4"), 7, 1, 2), 7);
}

TEST(ScaleRules, FinerOuterScalesAreInTheBlockScales) {
  std::vector<float> values(std::size_t{2} * 256);
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = std::cos(static_cast<float>(i)) * (i < 256 ? 1.0F : 300.0F);
  QuantizeTask task;
  task.spec.format = &find_format("int4_p2");
  for (const OuterScale outer : {OuterScale::kRow, OuterScale::k1x128, OuterScale::k128x128}) {
    task.spec.outer.each = outer;
    std::vector<float> scales(values.size() / 16);
    std::vector<float> image(values.size());
    std::vector<std::uint8_t> codes(values.size() / 2);
    const OuterShape shape = outer_shape(quantized_shape(2, 256, task.spec, Axis::kRow), outer);
    std::vector<float> outer_scales(static_cast<std::size_t>(shape.rows * shape.columns));
    task.out = {.codes = codes.data(), .scales = scales.data(), .dequantized = image.data()};
    task.out.dequantized_dtype = DType::kF32;
    task.out.outer_scales = outer_scales.data();
    reference::quantize({values.data(), DType::kF32, 2, 256, 256}, task);
    for (std::int64_t block = 0; block < std::ssize(scales); ++block) {
      const float second = outer_scales[static_cast<std::size_t>(shape.index(block / 16, block % 16 * 16))];
      int exponent = 0;
      EXPECT_EQ(std::fabs(std::frexp(scales[static_cast<std::size_t>(block)] / second, &exponent)), 0.5F);
    }
    double error = 0;
    double square = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
      const unsigned code = (codes[i / 2] >> (4 * (i % 2))) & 0xFU;
      EXPECT_EQ(image[i], code_value(task.spec.format->element, code) * scales[i / 16]);
      error += std::pow(static_cast<double>(image[i] - values[i]), 2);
      square += std::pow(static_cast<double>(values[i]), 2);
    }
    EXPECT_LT(error / square, 0.02);
  }
}

}  // namespace
}  // namespace ufp4::reference
