#include "io/checkpoint_folders.h"

#include <gtest/gtest.h>

#include "io/file.h"
#include "io/temporary_folder.h"
#include "message_of.h"
#include "ufp4/error.h"

namespace ufp4::io {
namespace {

namespace fs = std::filesystem;

TEST(CheckpointFolders, OneNameAStep) {
  const TemporaryFolder folder;
  for (const char* name :
       {"step-00000004", "step-4", "step-0000000004", "step-00000012", "step-123456789", "step-0123456789", "step-",
        "step-0000000x", "step--0000001", ".step-00000007.new", "refused-step-00000008", "other"}) {
    fs::create_directory(folder / name);
  }
  folder.write("step-00000020", "a file");
  fs::create_directory_symlink(folder / "step-00000004", folder / "step-00000021");
  EXPECT_EQ(checkpoint_steps(folder.path()), (std::vector<std::int64_t>{4, 12, 123456789}));
  std::vector<std::string> stray;
  for (const fs::path& path : stray_checkpoints(folder.path())) stray.push_back(path.filename());
  EXPECT_EQ(stray, (std::vector<std::string>{"step-", "step--0000001", "step-0000000004", "step-0000000x",
                                             "step-00000020", "step-00000021", "step-0123456789", "step-4"}));
}

TEST(CheckpointFolders, TheManifestSaysWhatIsWhole) {
  const TemporaryFolder folder;
  for (const char* name : kCheckpointFiles) folder.write(name, std::string("of ") + name);
  EXPECT_NE(message_of<InputError>([&] { verify_checkpoint(folder.path()); }).find(kCheckpointManifest),
            std::string::npos);
  atomic_write_file(folder / kCheckpointManifest, checkpoint_manifest(folder.path()));
  verify_checkpoint(folder.path());
  folder.write("state.json", "of state.jsoN");
  EXPECT_NE(message_of<InputError>([&] { verify_checkpoint(folder.path()); }).find("state.json is damaged"),
            std::string::npos);
}

TEST(CheckpointFolders, AMessageQuotesALine) {
  const TemporaryFolder folder;
  for (const char* name : kCheckpointFiles) folder.write(name, "x");
  folder.write(kCheckpointManifest, R"({"files": {"config.toml": ")" + std::string(100'000, 'x') + "\"}}");
  EXPECT_LT(message_of<InputError>([&] { verify_checkpoint(folder.path()); }).size(), 1000U);
}

}  // namespace
}  // namespace ufp4::io
