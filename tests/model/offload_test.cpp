// Activations that wait in the memory of the host come back as they were, and their own memory is free in between.
#include "model/offload.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/full.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "message_of.h"
#include "test_devices.h"
#include "torch/recorded_work.h"
#include "ufp4/error.h"

namespace ufp4 {
namespace {

constexpr std::int64_t kLayers = 6;

at::Tensor activation(const at::Device& device, double value) {
  return at::full({device.is_cpu() ? 64 : 8192, 1024}, value, at::TensorOptions().dtype(at::kBFloat16).device(device));
}

struct Forward {
  std::vector<at::Tensor> kept;
  std::vector<std::shared_ptr<Offload::Place>> places;
};

// Layer i has made what it keeps, here or elsewhere.
void put(Offload& offload, Forward& pass, std::int64_t layer, at::Tensor made) {
  pass.places.push_back(offload.put(layer, made));
  pass.kept.push_back(pass.places.back() == nullptr ? std::move(made) : at::Tensor());
}

// Layer i makes first + i.
Forward forward(Offload& offload, const at::Device& device, double first) {
  Forward pass;
  for (std::int64_t i = 0; i < kLayers; ++i) {
    put(offload, pass, i, activation(device, first + static_cast<double>(i)));
  }
  return pass;
}

void expect_back(Offload& offload, Forward& pass, double first) {
  for (std::int64_t i = kLayers - 1; i >= 0; --i) {
    const auto at = static_cast<std::size_t>(i);
    at::Tensor back = offload.get(i, std::exchange(pass.places[at], nullptr));
    if (!back.defined()) back = std::exchange(pass.kept[at], {});
    EXPECT_TRUE((back == first + static_cast<double>(i)).all().item<bool>()) << i;
  }
}

std::vector<bool> waiting(const Forward& pass) {
  std::vector<bool> list;
  for (const auto& place : pass.places) list.push_back(place != nullptr);
  return list;
}

TEST(Offload, ComesBackAsItWas) {
  for (const at::Device& device : test_devices()) {
    for (const std::int64_t count : {0, 1, 2, 4, 5}) {
      Offload offload(device, kLayers, count);
      for (int step = 0; step < 5; ++step) {
        Forward pass = forward(offload, device, 10.0 * step);
        std::vector<bool> expected(kLayers, false);
        for (std::int64_t i = 0; i < count; ++i) expected[static_cast<std::size_t>(i)] = true;
        EXPECT_EQ(waiting(pass), expected);
        expect_back(offload, pass, 10.0 * step);
      }
    }
  }
}

TEST(Offload, TheMemoryIsFreeInBetween) {
  for (const at::Device& device : test_devices()) {
    Offload offload(device, kLayers, 4);
    std::vector<c10::weak_intrusive_ptr<c10::StorageImpl>> storages;
    Forward pass;
    for (std::int64_t i = 0; i < kLayers; ++i) {
      at::Tensor made = activation(device, static_cast<double>(i));
      storages.emplace_back(made.storage().getWeakStorageImpl());
      put(offload, pass, i, std::move(made));
    }
    for (std::size_t i = 0; i < storages.size(); ++i) EXPECT_EQ(storages[i].expired(), i < 3) << i;
    EXPECT_FALSE(offload.get(kLayers - 1, nullptr).defined());
    for (std::size_t i = 0; i < storages.size(); ++i) EXPECT_EQ(storages[i].expired(), i < 4) << i;
    expect_back(offload, pass, 0);
  }
}

TEST(Offload, TheLastLayerIsNotTaken) {
  const std::string message = message_of<InputError>([] { Offload(at::kCPU, kLayers, kLayers); });
  EXPECT_NE(message.find("6 of 6 layers"), std::string::npos) << message;
  EXPECT_NE(message.find("at most 5"), std::string::npos) << message;
}

// The one before still waits, in the only memory there is.
TEST(Offload, ASecondForwardPassKeepsWhatItMakes) {
  for (const at::Device& device : test_devices()) {
    Offload offload(device, kLayers, 3);
    Forward first = forward(offload, device, 10);
    Forward second = forward(offload, device, 20);
    EXPECT_EQ(waiting(second), std::vector<bool>(kLayers, false));
    expect_back(offload, first, 10);
    expect_back(offload, second, 20);
    EXPECT_EQ(waiting(forward(offload, device, 30)), (std::vector{true, true, true, false, false, false}));
  }
}

TEST(Offload, AForwardPassMayBeGivenUp) {
  for (const at::Device& device : test_devices()) {
    Offload offload(device, kLayers, 4);
    forward(offload, device, 10);
    {
      Forward half = forward(offload, device, 20);
      offload.get(5, half.places[5]);
      half.kept[5].reset();
      offload.get(4, half.places[4]);  // that of layer 3 is on its way, and nobody waits for it
    }
    Forward other = forward(offload, device, 30);
    expect_back(offload, other, 30);
    Forward smaller;
    for (std::int64_t i = 0; i < kLayers; ++i) {
      put(offload, smaller, i, activation(device, 40.0 + static_cast<double>(i)).narrow(0, 0, 7).contiguous());
    }
    expect_back(offload, smaller, 40);
  }
}

TEST(Offload, AnExceptionMayEndARecording) {
  if (!gpu_usable()) GTEST_SKIP() << "no GPU";
  const at::Device gpu(at::kCUDA, 0);
  Offload offload(gpu, kLayers, 4);
  {
    RecordedWork work(gpu, true);
    int runs = 0;
    const auto step = [&] {
      Forward pass = forward(offload, gpu, 10);
      if (++runs == 3) throw RunError("in the midst of a recording, with copies under way");
      expect_back(offload, pass, 10);
    };
    work.run(step);
    work.run(step);
    EXPECT_THROW(work.run(step), RunError);
    EXPECT_EQ(runs, 3);
  }
  Offload next(gpu, kLayers, 4);
  Forward pass = forward(next, gpu, 20);
  expect_back(next, pass, 20);
}

}  // namespace
}  // namespace ufp4
