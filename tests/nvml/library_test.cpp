// The loader survives everything that may lie at the path of an NVML library.
#include "worker/nvml/library.h"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include <fstream>

#include "tests/nvml/machine.h"

namespace tutti::nvml::test {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

TEST(Library, OpensTheDoubleAndKnowsItIsSimulated) {
  const auto opened = Library::open(double_library());
  ASSERT_TRUE(opened.library) << opened.why;
  EXPECT_TRUE(opened.library->simulated());
  EXPECT_EQ(opened.library->path(), double_library());
  EXPECT_THAT(opened.library->capabilities(), ::testing::IsSupersetOf({"events", "processes", "ecc"}));
}

TEST(Library, DescribesCodesInWordsAndNumber) {
  const auto opened = Library::open(double_library());
  ASSERT_TRUE(opened.library) << opened.why;
  EXPECT_EQ(opened.library->describe(Return::gpu_is_lost), "GPU is lost (15)");
}

TEST(Library, OldDriverOpensWithFewerCapabilities) {
  const auto opened = Library::open(old_double_library());
  ASSERT_TRUE(opened.library) << opened.why;
  EXPECT_THAT(opened.library->capabilities(), IsEmpty());
  EXPECT_EQ(opened.library->symbols().nvmlEventSetWait_v2, nullptr);
}

TEST(Library, SaysThatTheFileIsMissing) {
  const auto opened = Library::open("/nonexistent/libnvidia-ml.so.1");
  EXPECT_FALSE(opened.library);
  EXPECT_THAT(opened.why, HasSubstr("/nonexistent/libnvidia-ml.so.1: No such file"));
}

TEST(Library, SaysThatTheFileIsEmpty) {
  ScratchFolder scratch;
  const std::string path = scratch.path() + "/libnvidia-ml.so.1";
  std::ofstream{path};
  const auto opened = Library::open(path);
  EXPECT_FALSE(opened.library);
  EXPECT_THAT(opened.why, HasSubstr("empty"));
}

TEST(Library, SurvivesAFileThatIsNoElf) {
  ScratchFolder scratch;
  const std::string path = scratch.path() + "/libnvidia-ml.so.1";
  std::ofstream{path} << "this is a text of more than sixty-four bytes, and certainly not a shared object";
  const auto opened = Library::open(path);
  EXPECT_FALSE(opened.library);
  EXPECT_THAT(opened.why, HasSubstr(path));
}

TEST(Library, SurvivesATruncatedElf) {
  ScratchFolder scratch;
  const std::string path = scratch.path() + "/libnvidia-ml.so.1";
  std::filesystem::copy_file(double_library(), path);
  std::filesystem::resize_file(path, 200);
  const auto opened = Library::open(path);
  EXPECT_FALSE(opened.library);
  EXPECT_THAT(opened.why, HasSubstr(path));
}

TEST(Library, DoesNotWaitOnAFifo) {
  ScratchFolder scratch;
  const std::string path = scratch.path() + "/libnvidia-ml.so.1";
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  const auto opened = Library::open(path);
  EXPECT_FALSE(opened.library);
  EXPECT_THAT(opened.why, HasSubstr("not a regular file"));
}

TEST(Library, NamesTheRequiredSymbolsThatAreMissing) {
  const auto opened = Library::open("libm.so.6");
  EXPECT_FALSE(opened.library);
  EXPECT_THAT(opened.why, HasSubstr("lacks nvmlInit_v2"));
  EXPECT_THAT(opened.why, HasSubstr("nvmlErrorString"));
  EXPECT_THAT(opened.why, Not(HasSubstr("nvmlEventSetWait_v2")))
      << "an optional symbol is no reason to refuse";
}

TEST(Library, DoesNotFallBackWhenAPathWasAskedFor) {
  const auto opened = Library::open("/nonexistent/a.so");
  EXPECT_THAT(opened.why, Not(HasSubstr("libnvidia-ml")));
}

}  // namespace
}  // namespace tutti::nvml::test
