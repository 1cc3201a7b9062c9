// What Offload has streams wait for, on a device whose streams run in any order that this allows.
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <random>
#include <vector>

#include "late_device.h"
#include "model/offload.h"

namespace ufp4 {
namespace {

constexpr std::int64_t kSize = 64;

// A tensor that the current stream fills some time.
at::Tensor filled(const at::Device& device, float value) {
  at::Tensor tensor = at::empty({kSize}, at::TensorOptions().dtype(at::kFloat).device(device));
  late_device::enqueue([to = tensor.mutable_data_ptr<float>(), value] { std::fill_n(to, kSize, value); });
  return tensor;
}

class OffloadOrder : public ::testing::TestWithParam<late_device::Order> {
 protected:
  // Looks at the tensor when the current stream has come so far.
  void expect(const at::Tensor& tensor, float value) {
    late_device::enqueue([this, from = tensor.const_data_ptr<float>(), value] {
      if (!std::all_of(from, from + kSize, [value](float x) { return x == value; })) ++wrong_;
    });
  }

  // A step of `layers` layers, whose passes may end early; between what is offloaded others use the same memory.
  void step(Offload& offload, std::int64_t layers, float first) {
    std::vector<at::Tensor> kept;
    std::vector<std::shared_ptr<Offload::Place>> places;
    std::vector<at::Tensor> gradients;
    const auto value = [first](std::int64_t layer) { return first + static_cast<float>(layer); };
    const std::int64_t forward_ends = some(8) == 0 ? some(layers) : layers;
    for (std::int64_t i = 0; i < forward_ends; ++i) {
      filled(device_, -1);
      const at::Tensor made = filled(device_, value(i));
      places.push_back(offload.put(i, made));
      kept.push_back(places.back() == nullptr ? made : at::Tensor());
      expect(made, value(i));
      expect(filled(device_, -2), -2);
    }
    if (forward_ends < layers) return;
    const std::int64_t backward_ends = some(8) == 0 ? some(layers) : 0;
    for (std::int64_t i = layers - 1; i >= backward_ends; --i) {
      const auto at = static_cast<std::size_t>(i);
      at::Tensor back = offload.get(i, places[at]);
      places[at].reset();
      if (!back.defined()) back = kept[at];
      kept[at].reset();
      expect(back, value(i));
      expect(filled(device_, -3), -3);
      if (some(2) == 0) gradients.push_back(filled(device_, -4));
    }
    for (const at::Tensor& gradient : gradients) expect(gradient, -4);
  }

  std::int64_t some(std::int64_t end) { return static_cast<std::int64_t>(random_() % static_cast<std::uint64_t>(end)); }

  at::Device device_ = late_device::start(GetParam());
  std::mt19937_64 random_{7};
  std::int64_t wrong_ = 0;
};

TEST_P(OffloadOrder, NothingIsUsedBeforeItIsThereNorGivenAwayWhileItIsUsed) {
  for (int round = 0; round < 400; ++round) {
    const std::int64_t layers = 2 + some(9);
    {
      Offload offload(device_, layers, some(layers));
      for (int i = 0; i < 6; ++i) {
        step(offload, layers, static_cast<float>(1000 * round + 100 * i));
        if (some(3) == 0) late_device::finish();
      }
    }
    std::vector<at::Tensor> after(4);
    for (at::Tensor& tensor : after) tensor = filled(device_, 7);
    for (const at::Tensor& tensor : after) expect(tensor, 7);
    late_device::finish();
    ASSERT_EQ(wrong_, 0) << "round " << round;
  }
}

// What is kept is dropped in the order of the layers, and the way back takes its place.
TEST_P(OffloadOrder, TheWayBackTakesNoMoreMemoryThanThereWasAtTheBeginning) {
  constexpr std::int64_t kLayers = 6;
  constexpr std::int64_t kOne = kSize * 4;
  const std::int64_t before = late_device::allocated();
  Offload offload(device_, kLayers, 4);
  std::vector<at::Tensor> kept;
  std::vector<std::shared_ptr<Offload::Place>> places;
  for (std::int64_t i = 0; i < kLayers; ++i) {
    const at::Tensor made = filled(device_, 1);
    places.push_back(offload.put(i, made));
    kept.push_back(places.back() == nullptr ? made : at::Tensor());
  }
  EXPECT_EQ(late_device::allocated() - before, 3 * kOne) << "of the last that is offloaded, and of two that are kept";
  offload.get(5, nullptr);
  EXPECT_EQ(late_device::allocated() - before, 2 * kOne);
  kept[5].reset();
  for (std::int64_t i = 4; i >= 0; --i) {
    const auto at = static_cast<std::size_t>(i);
    const at::Tensor back = offload.get(i, places[at]);
    EXPECT_EQ(back.defined(), i < 4);
    // Its own, and the next one, which is on its way.
    EXPECT_EQ(late_device::allocated() - before, (i > 0 ? 2 : 1) * kOne) << i;
    places[at].reset();
    kept[at].reset();
  }
  late_device::finish();
}

INSTANTIATE_TEST_SUITE_P(Orders, OffloadOrder,
                         ::testing::Values(late_device::Order::kAny, late_device::Order::kFirstFirst,
                                           late_device::Order::kPoolFirst),
                         [](const auto& order) {
                           return order.param == late_device::Order::kAny          ? "any"
                                  : order.param == late_device::Order::kFirstFirst ? "first_first"
                                                                                   : "pool_first";
                         });

}  // namespace
}  // namespace ufp4
