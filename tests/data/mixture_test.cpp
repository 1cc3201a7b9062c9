// Sources with weights: how often each is drawn, in which order, and from where a run goes on.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "data/test_files.h"
#include "data/token_shard.h"

namespace ufp4::data {
namespace {

using Tokens = std::vector<std::int32_t>;

constexpr std::int64_t kLength = 7;

// Documents whose tokens all are `value`, so that a sequence tells its source.
std::string source(const TestFolder& folder, const char* name, std::uint32_t value, int documents,
                   std::uint64_t tokenizer = 0) {
  std::vector<std::uint32_t> tokens;
  for (int i = 0; i < documents; ++i) {
    tokens.insert(tokens.end(), 10, value);
    tokens.push_back(0);
  }
  write_token_shard(folder / name, {.vocab_size = 9, .separator = 0, .tokenizer = tokenizer}, tokens);
  return folder / name;
}

DataConfig config_of(std::vector<std::string> files, std::vector<double> weights) {
  DataConfig config;
  config.train_files = std::move(files);
  config.weights = std::move(weights);
  config.sequence_length = kLength;
  config.val_fraction = 0;
  config.seed = 5;
  return config;
}

// The source of each of the next sequences.
std::vector<std::int32_t> drawn(Dataset& data, std::int64_t sequences) {
  Tokens tokens(static_cast<std::size_t>(sequences * (kLength + 1)));
  data.next(tokens);
  std::vector<std::int32_t> list;
  for (std::int64_t i = 0; i < sequences; ++i) {
    const auto first = tokens.begin() + i * (kLength + 1);
    list.push_back(*std::max_element(first, first + kLength + 1));
  }
  return list;
}

TEST(Mixture, DrawsEachSourceAsOftenAsItsWeightSays) {
  const TestFolder folder;
  const auto config = config_of({source(folder, "a.bin", 1, 50), source(folder, "b.bin", 2, 4)}, {1, 3});
  const std::unique_ptr<Dataset> data = Dataset::open(config);
  const std::vector<std::int32_t> list = drawn(*data, 2000);
  EXPECT_NEAR(static_cast<double>(std::count(list.begin(), list.end(), 2)), 1500, 80);
  EXPECT_EQ(std::count(list.begin(), list.end(), 1) + std::count(list.begin(), list.end(), 2), 2000);
  EXPECT_EQ(data->train_documents(), 54);
  EXPECT_NE(drawn(*Dataset::open(config), 20), std::vector<std::int32_t>(20, 2));
  DataConfig other = config;
  other.seed = 6;
  EXPECT_NE(drawn(*Dataset::open(other), 100), drawn(*Dataset::open(config), 100));
}

TEST(Mixture, GoesOnWhereItWasAndKnowsItsData) {
  const TestFolder folder;
  const auto config = config_of({source(folder, "a.bin", 1, 50), source(folder, "b.bin", 2, 4)}, {1, 3});
  const std::unique_ptr<Dataset> whole = Dataset::open(config);
  Tokens expected(static_cast<std::size_t>(40 * (kLength + 1)));
  whole->next(expected);

  const std::unique_ptr<Dataset> part = Dataset::open(config);
  Tokens first(static_cast<std::size_t>(13 * (kLength + 1)));
  part->next(first);
  const std::unique_ptr<Dataset> rest = Dataset::open(config);
  rest->restore(part->state());
  Tokens second(static_cast<std::size_t>(27 * (kLength + 1)));
  rest->next(second);
  first.insert(first.end(), second.begin(), second.end());
  EXPECT_EQ(first, expected);

  DataConfig heavier = config;
  heavier.weights = {1, 4};
  const std::unique_ptr<Dataset> other = Dataset::open(heavier);
  EXPECT_NE(other->fingerprint(), whole->fingerprint());
  const std::string before = other->state();
  EXPECT_THROW(other->restore(whole->state()), InputError);
  EXPECT_THROW(other->restore("{}"), InputError);
  EXPECT_EQ(other->state(), before);
}

TEST(Mixture, EachSourceHoldsOutAShareForValidation) {
  const TestFolder folder;
  auto config = config_of({source(folder, "a.bin", 1, 50), source(folder, "b.bin", 2, 50)}, {1, 1});
  config.val_fraction = 0.2;
  const std::unique_ptr<Dataset> data = Dataset::open(config);
  EXPECT_EQ(data->train_documents(), 80);
  std::vector<int> seen(3);
  Tokens tokens(kLength + 1);
  for (std::int64_t i = 0; i < data->val_sequences(); ++i) {
    data->val_sequence(i, tokens);
    ++seen.at(static_cast<std::size_t>(*std::max_element(tokens.begin(), tokens.end())));
  }
  EXPECT_GT(seen[1], 5);
  EXPECT_EQ(seen[1], seen[2]);
  config.val_files = {source(folder, "v.bin", 3, 5)};
  const std::unique_ptr<Dataset> held = Dataset::open(config);
  EXPECT_EQ(held->train_documents(), 100);
  held->val_sequence(0, tokens);
  EXPECT_EQ(tokens[1], 3);
}

TEST(Mixture, RefusesWhatDoesNotFit) {
  const TestFolder folder;
  const std::string a = source(folder, "a.bin", 1, 50, 7);
  const std::string b = source(folder, "b.bin", 2, 50, 8);
  const auto refused = [](const DataConfig& config) {
    try {
      Dataset::open(config);
    } catch (const InputError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_NE(refused(config_of({a, b}, {1, 1})).find("of another tokenizer than those of"), std::string::npos);
  EXPECT_NE(refused(config_of({a, b}, {1})).find("1 weights (data.weights), expected one for each of the 2 files"),
            std::string::npos);
  EXPECT_NE(refused(config_of({a}, {-1})).find("expected numbers above 0"), std::string::npos);
  const std::string text = folder.write("t.txt", std::string(100, 'x'));
  EXPECT_NE(refused(config_of({a, text}, {1, 1})).find("vocabulary of 257"), std::string::npos);
}

}  // namespace
}  // namespace ufp4::data
