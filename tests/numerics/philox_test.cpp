#include "numerics/philox.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>

namespace ufp4::philox {
namespace {

struct KnownAnswer {
  Counter counter;
  Key key;
  Counter words;
};

// Published with Random123 (kat_vectors, philox4x32 10).
constexpr std::array kKnownAnswers{
    KnownAnswer{{0, 0, 0, 0}, {0, 0}, {0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8}},
    KnownAnswer{{0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF},
                {0xFFFFFFFF, 0xFFFFFFFF},
                {0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD}},
    KnownAnswer{{0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344},
                {0xA4093822, 0x299F31D0},
                {0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1}},
};

TEST(Philox, KnownAnswers) {
  for (const KnownAnswer& known : kKnownAnswers) EXPECT_EQ(generate(known.counter, known.key), known.words);
}

TEST(Philox, SeedGivesTheKeyLowWordFirst) { EXPECT_EQ(make_key(0x299F31D0A4093822u), (Key{0xA4093822, 0x299F31D0})); }

TEST(Philox, DrawsAreHalvesOfTheWordsOfTheirGroup) {
  const Place random{
      .seed = 0x299F31D0A4093822u, .step = 0x13198A2E, .stream = 0x03707344, .row_offset = 0, .column_offset = 0};
  const Counter words = generate({0x043F6A88, 0x85A308D3, random.step, random.stream}, make_key(random.seed));
  for (std::uint32_t lane = 0; lane < 8; ++lane) {
    const std::uint32_t half = (words[lane / 2] >> (lane % 2 == 0 ? 0 : 16)) & 0xFFFFu;
    EXPECT_EQ(draw16(random, 0x85A308D3, 0x043F6A88u * 8 + lane), half) << lane;
  }
  const Place zero{};
  const std::array<std::uint32_t, 8> of_zero{0xE8D5, 0x6627, 0xC58D, 0xE169, 0xAC4C, 0xBC57, 0xDBD8, 0x9B00};
  for (std::uint32_t lane = 0; lane < 8; ++lane) EXPECT_EQ(draw16(zero, 0, lane), of_zero[lane]) << lane;
}

}  // namespace
}  // namespace ufp4::philox
