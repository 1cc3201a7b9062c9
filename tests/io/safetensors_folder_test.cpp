#include "io/safetensors_folder.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "io/temporary_folder.h"
#include "message_of.h"
#include "ufp4/error.h"

namespace ufp4::io {
namespace {

std::vector<std::string> names_of(const std::vector<std::filesystem::path>& paths) {
  std::vector<std::string> names;
  names.reserve(paths.size());
  for (const auto& path : paths) names.push_back(path.filename());
  return names;
}

class SafetensorsFolderTest : public ::testing::Test {
 protected:
  std::string refusal() const {
    std::string message = message_of<InputError>([&] { list_safetensors(folder_.path()); });
    const std::string start = "folder '" + folder_.path().string() + "'";
    return message.starts_with(start) ? message.substr(start.size()) : message;
  }

  TemporaryFolder folder_;
};

TEST_F(SafetensorsFolderTest, ListsFilesInOrderAndCompanionsApart) {
  for (const char* name : {"b.safetensors", "a.safetensors", "._a.safetensors", "._index", "notes.txt"}) {
    folder_.write(name, "");
  }
  const SafetensorsFolder list = list_safetensors(folder_.path());
  EXPECT_EQ(names_of(list.files), (std::vector<std::string>{"a.safetensors", "b.safetensors"}));
  EXPECT_EQ(names_of(list.companions), std::vector<std::string>{"._a.safetensors"});
}

TEST_F(SafetensorsFolderTest, OneWithoutFilesIsRefused) {
  folder_.write("._a.safetensors", "");
  EXPECT_EQ(refusal(), " holds no .safetensors file");
}

TEST_F(SafetensorsFolderTest, NumbersInNamesAnnounceTheOthers) {
  folder_.write("model-00001-of-00003.safetensors", "");
  folder_.write("model-00003-of-00003.safetensors", "");
  EXPECT_EQ(refusal(), ": the shard 'model-00002-of-00003.safetensors' is missing: the names of 2 files announce 3");
  folder_.write("model-00002-of-00003.safetensors", "");
  EXPECT_EQ(list_safetensors(folder_.path()).files.size(), 3U);
  folder_.write("other-0-of-2.safetensors", "");  // counts from 0
  EXPECT_EQ(refusal(), ": the shard 'other-1-of-2.safetensors' is missing: the names of 1 files announce 2");
  folder_.write("other-1-of-2.safetensors", "");
  EXPECT_EQ(list_safetensors(folder_.path()).files.size(), 5U);
}

TEST_F(SafetensorsFolderTest, OtherNamesAnnounceNothing) {
  for (const char* name : {"state-of-2.safetensors", "a-1-of-x.safetensors", "-of-.safetensors", "a-x-of-2.safetensors",
                           "a-1-of-99999999999.safetensors", "a-1-of-0.safetensors"}) {
    folder_.write(name, "");
  }
  EXPECT_EQ(list_safetensors(folder_.path()).files.size(), 6U);
}

TEST_F(SafetensorsFolderTest, AnIndexNamesItsShards) {
  folder_.write("a.safetensors", "");
  folder_.write("model.safetensors.index.json", R"({"metadata": {}, "weight_map": {"w": "a.safetensors"}})");
  EXPECT_EQ(list_safetensors(folder_.path()).files.size(), 1U);
  folder_.write("model.safetensors.index.json", R"({"weight_map": {"v": "b.safetensors", "w": "a.safetensors"}})");
  EXPECT_EQ(refusal(), ": the shard 'b.safetensors' is missing: 'model.safetensors.index.json' says that it holds 'v'");
  folder_.write("model.safetensors.index.json", R"({"weight_map": {"v": "../a.safetensors"}})");
  EXPECT_NE(refusal().find("the shard '../a.safetensors' is missing"), std::string::npos);
}

TEST_F(SafetensorsFolderTest, AnIndexThatIsNoneIsRefused) {
  folder_.write("a.safetensors", "");
  for (const char* text : {"", "[]", "{}", R"({"weight_map": []})", R"({"weight_map": {"w": 1}})",
                           R"({"weight_map": {"w": [[[[[[[[[[]]]]]]]]]]}})"}) {
    folder_.write("model.safetensors.index.json", text);
    EXPECT_NE(refusal().find("model.safetensors.index.json"), std::string::npos) << text;
  }
}

}  // namespace
}  // namespace ufp4::io
