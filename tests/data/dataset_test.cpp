#include "data/dataset.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>
#include <stdexcept>

#include "data/language.h"
#include "data/test_files.h"
#include "data/token_shard.h"

namespace ufp4::data {
namespace {

using Tokens = std::vector<std::int32_t>;

Tokens take(Dataset& data, std::int64_t sequences) {
  Tokens tokens(static_cast<std::size_t>(sequences * (data.sequence_length() + 1)));
  data.next(tokens);
  return tokens;
}

Tokens validation(const Dataset& data) {
  const auto width = static_cast<std::size_t>(data.sequence_length() + 1);
  Tokens tokens(static_cast<std::size_t>(data.val_sequences()) * width);
  for (std::int64_t i = 0; i < data.val_sequences(); ++i) {
    data.val_sequence(i, std::span(tokens).subspan(static_cast<std::size_t>(i) * width, width));
  }
  return tokens;
}

// Documents of different letters and lengths: "aaa..", "bbb..", ...
std::string documents(int count, int first_length) {
  std::string lines;
  for (int i = 0; i < count; ++i) {
    lines += "{\"text\": \"" + std::string(static_cast<std::size_t>(first_length + 7 * i), static_cast<char>('a' + i)) +
             "\"}\n";
  }
  return lines;
}

DataConfig config_for(std::vector<std::string> files, std::int64_t sequence_length = 16) {
  DataConfig config;
  config.train_files = std::move(files);
  config.val_fraction = 0;
  config.sequence_length = sequence_length;
  config.seed = 3;
  return config;
}

TEST(Dataset, AnEpochHoldsEveryTokenAsOftenAsItStandsInTheText) {
  const TestFolder folder;
  DataConfig config = config_for({folder.write("a.jsonl", documents(10, 50))}, 1);  // T = 1: pairs, nothing left over
  const auto data = Dataset::open(config);
  EXPECT_EQ(data->vocab_size(), 257);
  EXPECT_EQ(data->train_documents(), 10);
  EXPECT_EQ(data->entropy_rate(), std::nullopt);
  ASSERT_TRUE(data->train_tokens().has_value());
  const std::int64_t tokens = *data->train_tokens();
  EXPECT_EQ(tokens, 10 * 50 + 7 * 45 + 10 - 1);
  const Tokens epoch = take(*data, tokens);
  std::map<std::int32_t, int> targets;
  for (std::size_t i = 1; i < epoch.size(); i += 2) ++targets[epoch[i]];
  int missing = 0;  // the first token of the row is no target
  for (int i = 0; i < 10; ++i) {
    const int count = targets['a' + i];
    EXPECT_GE(count, 50 + 7 * i - 1);
    missing += 50 + 7 * i - count;
  }
  EXPECT_EQ(missing, 1);
  EXPECT_EQ(targets[256], 10);
}

TEST(Dataset, SequencesArePackedAcrossDocuments) {
  const TestFolder folder;
  const auto data = Dataset::open(config_for({folder.write("a.jsonl", documents(12, 5))}, 64));
  const std::int64_t count = *data->train_tokens() / 64;
  for (std::int64_t s = 0; s < count; ++s) {
    const Tokens tokens = take(*data, 1);
    for (std::size_t i = 1; i < tokens.size(); ++i) {  // a letter changes at separators alone
      if (tokens[i] != 256 && tokens[i - 1] != 256) {
        ASSERT_EQ(tokens[i], tokens[i - 1]);
      }
    }
  }
}

TEST(Dataset, DoesNotDependOnHowManyAreAskedFor) {
  const TestFolder folder;
  const DataConfig config = config_for({folder.write("a.jsonl", documents(20, 30))});
  const auto data = Dataset::open(config);
  const std::int64_t count = 3 * (*data->train_tokens() / 16) + 5;  // over several epochs
  const Tokens all = take(*data, count);
  const auto other = Dataset::open(config);
  Tokens pieces;
  for (std::int64_t left = count, piece = 1; left > 0; left -= piece, piece = std::min(left, piece % 7 + 1)) {
    const Tokens some = take(*other, piece);
    pieces.insert(pieces.end(), some.begin(), some.end());
  }
  EXPECT_EQ(all, pieces);
  EXPECT_EQ(data->state(), other->state());
}

TEST(Dataset, SeedAndEpochSetTheOrder) {
  const TestFolder folder;
  DataConfig config = config_for({folder.write("a.jsonl", documents(20, 30))});
  const auto data = Dataset::open(config);
  const std::int64_t count = *data->train_tokens() / 16;
  const Tokens first = take(*data, count);
  const Tokens second = take(*data, count);
  EXPECT_NE(first, second);
  EXPECT_EQ(first, take(*Dataset::open(config), count));
  config.seed = 4;
  EXPECT_NE(first, take(*Dataset::open(config), count));
}

// A batch of a corpus of a few long documents comes from several of them.
TEST(Dataset, LongDocumentsAreMixed) {
  const TestFolder folder;
  const auto data = Dataset::open(config_for({folder.write("a.jsonl", documents(8, 4000))}));
  const Tokens batch = take(*data, 32);
  std::map<std::int32_t, int> letters;
  for (const std::int32_t token : batch) ++letters[token];
  letters.erase(256);
  EXPECT_GE(letters.size(), 6U);
}

// The order is a promise: a run that is continued by a later build must see the same tokens.
TEST(Dataset, TheOrderIsKnown) {
  const TestFolder folder;
  const auto data = Dataset::open(config_for({folder.write("a.jsonl", documents(6, 3))}, 8));
  std::string letters;
  for (const std::int32_t token : take(*data, 4)) letters += token == 256 ? '|' : static_cast<char>(token);
  EXPECT_EQ(letters, "dddd|bbbbfffffffffbbbbbbb|cffffffff|");
}

void expect_resumes(const DataConfig& config, std::int64_t steps) {
  const auto data = Dataset::open(config);
  for (std::int64_t i = 0; i < steps; ++i) {
    const std::string state = data->state();
    const auto resumed = Dataset::open(config);
    take(*resumed, 2);
    resumed->restore(state);
    EXPECT_EQ(resumed->state(), state);
    ASSERT_EQ(take(*data, 3), take(*resumed, 3)) << "after " << state;
  }
}

TEST(Dataset, RestoredStreamGoesOnWithTheSameTokens) {
  const TestFolder folder;
  expect_resumes(config_for({folder.write("a.jsonl", documents(6, 10))}, 32), 12);  // over many epochs
  expect_resumes(config_for({"builtin"}, 32), 4);
}

TEST(Dataset, RefusesThePositionOfOtherData) {
  const TestFolder folder;
  const DataConfig config = config_for({folder.write("a.jsonl", documents(6, 10))});
  const auto data = Dataset::open(config);
  take(*data, 3);
  const std::string state = data->state();
  const auto refuses = [&state](const DataConfig& other) {
    const auto opened = Dataset::open(other);
    const std::string before = opened->state();
    expect_input_error([&] { opened->restore(state); }, {"other data"});
    EXPECT_EQ(opened->state(), before);
  };
  DataConfig other = config;
  other.seed = 9;
  refuses(other);
  other = config;
  other.sequence_length = 17;
  refuses(other);
  other = config;
  other.val_fraction = 0.2;
  refuses(other);
  refuses(config_for({folder.write("b.jsonl", documents(6, 11))}));
  refuses(config_for({"builtin"}));

  // The same text under another name is the same data.
  const auto moved = Dataset::open(config_for({folder.write("c.jsonl", documents(6, 10))}));
  moved->restore(state);
  EXPECT_EQ(moved->state(), state);
}

TEST(Dataset, RefusesWhatIsNoPosition) {
  const TestFolder folder;
  const auto data = Dataset::open(config_for({folder.write("a.jsonl", documents(6, 10))}));
  std::string state = data->state();
  for (const char* wrong : {"", "nonsense", "[]", "{}", "{\"data\":1,\"epoch\":0,\"sequence\":0}"}) {
    expect_input_error([&] { data->restore(wrong); }, {"position of the training data"});
  }
  const auto with = [&state](const std::string& from, const std::string& to) {
    return std::string(state).replace(state.find(from), from.size(), to);
  };
  expect_input_error([&] { data->restore(with("\"epoch\":0", "\"epoch\":-1")); }, {"expected"});
  expect_input_error([&] { data->restore(with("\"epoch\":0", "\"epoch\":4294967296")); }, {"expected"});
  expect_input_error([&] { data->restore(with("\"sequence\":0", "\"sequence\":1.5")); }, {"expected"});
  expect_input_error([&] { data->restore(with("\"sequence\":0", "\"sequence\":100000")); }, {"sequence 100000"});
}

TEST(Validation, FilesAreCutInTheirOrder) {
  const TestFolder folder;
  DataConfig config = config_for({folder.write("a.jsonl", documents(10, 50))}, 10);
  config.val_files = {folder.write("v.jsonl", "{\"text\": \"abcdefghijklmno\"}\n{\"text\": \"pqrstuvwxyz\"}\n")};
  config.val_tokens = 0;
  const auto data = Dataset::open(config);
  ASSERT_EQ(data->val_sequences(), 2);
  std::string letters;
  for (const std::int32_t token : validation(*data)) letters += token == 256 ? '|' : static_cast<char>(token);
  EXPECT_EQ(letters, "abcdefghijkklmno|pqrst");
  EXPECT_EQ(data->train_documents(), 10);
  config.val_tokens = 10;
  EXPECT_EQ(Dataset::open(config)->val_sequences(), 1);
  config.val_tokens = 1;  // never less than one sequence
  EXPECT_EQ(Dataset::open(config)->val_sequences(), 1);
}

TEST(Validation, ALimitSpreadsOverTheText) {
  const TestFolder folder;
  DataConfig config = config_for({folder.write("a.txt", std::string(100, 'x'))}, 10);
  config.val_files = {folder.write("v.jsonl", documents(8, 200))};
  config.val_tokens = 80;
  const auto data = Dataset::open(config);
  EXPECT_EQ(data->val_sequences(), 8);
  std::map<std::int32_t, int> letters;
  for (const std::int32_t token : validation(*data)) ++letters[token];
  letters.erase(256);
  EXPECT_GE(letters.size(), 6U);
}

TEST(Validation, ASplitHoldsDocumentsOutWhateverTheSeed) {
  const TestFolder folder;
  DataConfig config = config_for({folder.write("a.jsonl", documents(20, 40))}, 8);
  config.val_fraction = 0.2;
  config.val_tokens = 0;
  const auto data = Dataset::open(config);
  EXPECT_EQ(data->train_documents(), 16);
  const Tokens held = validation(*data);
  std::map<std::int32_t, int> held_letters;
  for (const std::int32_t token : held) ++held_letters[token];
  held_letters.erase(256);
  EXPECT_EQ(held_letters.size(), 4U);
  for (const std::int32_t token : take(*data, *data->train_tokens() / 8)) {
    ASSERT_FALSE(held_letters.contains(token));
  }
  config.seed = 77;
  EXPECT_EQ(validation(*Dataset::open(config)), held);
}

TEST(Validation, ASplitOfOneDocumentIsItsTail) {
  const TestFolder folder;
  DataConfig config = config_for({folder.write("a.txt", std::string(900, 'x') + std::string(100, 'y'))}, 8);
  config.val_fraction = 0.1;
  const auto data = Dataset::open(config);
  for (const std::int32_t token : validation(*data)) EXPECT_EQ(token, 'y');
  for (const std::int32_t token : take(*data, *data->train_tokens() / 8)) EXPECT_NE(token, 'y');
}

TEST(Validation, NoneWhereNoneIsWanted) {
  const TestFolder folder;
  const auto data = Dataset::open(config_for({folder.write("a.jsonl", documents(10, 50))}));
  EXPECT_EQ(data->val_sequences(), 0);
}

TEST(Dataset, MemoryLimitChangesNoToken) {
  const TestFolder folder;
  DataConfig config = config_for({folder.write("a.jsonl", documents(20, 30))});
  const Tokens in_memory = take(*Dataset::open(config), 50);
  config.memory_limit = 100;
  EXPECT_EQ(take(*Dataset::open(config), 50), in_memory);
}

TEST(Dataset, ShardsKeepTheirVocabulary) {
  const TestFolder folder;
  std::vector<std::uint32_t> tokens;
  for (std::uint32_t i = 0; i < 500; ++i) tokens.push_back(i % 50 == 49 ? 0 : 100000 + i);
  write_token_shard(folder / "a.bin", {.token_bytes = 4, .vocab_size = 131072, .separator = 0}, tokens);
  DataConfig config = config_for({folder / "a.bin"});
  config.val_fraction = 0.1;
  const auto data = Dataset::open(config);
  EXPECT_EQ(data->vocab_size(), 131072);
  EXPECT_EQ(data->train_documents(), 9);
  for (const std::int32_t token : take(*data, 20)) EXPECT_TRUE(token == 0 || (token >= 100000 && token < 100500));
  config.val_files = {folder.write("v.txt", std::string(100, 'x'))};
  expect_input_error([&] { Dataset::open(config); }, {"131072", "257"});
}

TEST(Dataset, RefusesWrongNumbers) {
  const TestFolder folder;
  const DataConfig good = config_for({folder.write("a.jsonl", documents(10, 50))});
  const auto refuses = [&good](const auto& change, const std::vector<std::string>& parts) {
    DataConfig config = good;
    change(config);
    expect_input_error([&] { Dataset::open(config); }, parts);
  };
  refuses([](DataConfig& c) { c.sequence_length = 0; }, {"sequence length is 0"});
  refuses([](DataConfig& c) { c.sequence_length = -5; }, {"sequence length is -5"});
  refuses([](DataConfig& c) { c.sequence_length = std::int64_t{1} << 60; }, {"sequence length"});
  refuses([](DataConfig& c) { c.sequence_length = 5000; }, {"training", "too few", "5000"});
  refuses([](DataConfig& c) { c.val_tokens = -1; }, {"val_tokens is -1"});
  refuses([](DataConfig& c) { c.val_fraction = 1; }, {"val_fraction"});
  refuses([](DataConfig& c) { c.val_fraction = -0.1; }, {"val_fraction"});
  refuses([](DataConfig& c) { c.val_fraction = std::nan(""); }, {"val_fraction"});
  refuses([](DataConfig& c) { c.memory_limit = -1; }, {"memory_limit"});
  refuses([](DataConfig& c) { c.train_files.clear(); }, {"no files"});
  refuses([](DataConfig& c) { c.train_files.emplace_back("builtin"); }, {"'builtin' stands alone"});
  refuses([](DataConfig& c) { c.val_files = {"builtin"}; }, {"'builtin' stands alone"});
  refuses([](DataConfig& c) { c.val_files = c.train_files; }, {"a.jsonl", "named before"});
  refuses([](DataConfig& c) { c.train_files.push_back(c.train_files[0]); }, {"a.jsonl", "twice"});
  refuses([](DataConfig& c) { c.train_files.emplace_back("/nowhere/b.jsonl"); }, {"/nowhere/b.jsonl"});
}

TEST(Dataset, RefusesASplitThatLeavesNothing) {
  const TestFolder folder;
  DataConfig config = config_for({folder.write("a.txt", std::string(100, 'x'))}, 40);
  config.val_fraction = 0.001;
  expect_input_error([&] { Dataset::open(config); }, {"val_fraction", "100 tokens"});
  config.val_fraction = 0.1;
  expect_input_error([&] { Dataset::open(config); }, {"validation", "11 tokens", "40"});
  config.val_fraction = 0.9;
  expect_input_error([&] { Dataset::open(config); }, {"training", "11 tokens", "40"});
}

TEST(Dataset, RefusesSpansThatAreNoSequences) {
  const TestFolder folder;
  DataConfig config = config_for({folder.write("a.jsonl", documents(10, 50))});
  config.val_fraction = 0.3;
  for (const auto& files : {config.train_files, {"builtin"}}) {
    config.train_files = files;
    const auto data = Dataset::open(config);
    Tokens tokens(18);
    EXPECT_THROW(data->next(tokens), std::invalid_argument);
    EXPECT_THROW(data->val_sequence(0, tokens), std::invalid_argument);
    tokens.resize(17);
    EXPECT_THROW(data->val_sequence(-1, tokens), std::invalid_argument);
    EXPECT_THROW(data->val_sequence(data->val_sequences(), tokens), std::invalid_argument);
  }
}

TEST(BuiltinLanguage, BeginsEverySequenceWithADocument) {
  DataConfig config = config_for({"builtin"}, 64);
  config.val_tokens = 1000;
  const auto data = Dataset::open(config);
  EXPECT_EQ(data->vocab_size(), 257);
  EXPECT_EQ(data->train_tokens(), std::nullopt);
  EXPECT_EQ(data->val_sequences(), 15);
  ASSERT_TRUE(data->entropy_rate().has_value());
  EXPECT_EQ(*data->entropy_rate(), Language::builtin().mean_entropy(64));
  const Tokens tokens = take(*data, 10);
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (i % 65 == 0) {
      EXPECT_EQ(tokens[i], 256);
    }
    EXPECT_TRUE(tokens[i] >= 0 && tokens[i] < 257);
  }
  const Tokens held = validation(*data);
  EXPECT_FALSE(std::equal(tokens.begin(), tokens.end(), held.begin()));
  config.seed = 8;
  EXPECT_NE(take(*Dataset::open(config), 10), tokens);
  EXPECT_EQ(validation(*Dataset::open(config)), held);
  config.val_files = {"builtin"};
  EXPECT_EQ(validation(*Dataset::open(config)), held);
  config.val_tokens = 0;
  expect_input_error([&] { Dataset::open(config); }, {"val_tokens is 0"});
}

}  // namespace
}  // namespace ufp4::data
