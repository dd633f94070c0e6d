// The descriptor by which an event loop learns of tasks.
#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include "core/task_bell.h"

namespace aktis::core {
namespace {

bool readable(int fd) {
  pollfd entry{fd, POLLIN, 0};
  return ::poll(&entry, 1, 0) == 1;
}

class TaskBellTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_EQ(::pipe(pipe_), 0); }
  void TearDown() override {
    ::close(pipe_[0]);
    ::close(pipe_[1]);
  }
  int pipe_[2] = {-1, -1};  // stands for the reactor's descriptor
  TaskBell bell_;
};

TEST_F(TaskBellTest, RingsUntilTheLoopLooks) {
  const int fd = bell_.open(pipe_[0]);
  EXPECT_FALSE(readable(fd));
  bell_.ring();
  bell_.ring();
  EXPECT_TRUE(readable(fd));
  bell_.quiet();
  EXPECT_FALSE(readable(fd));
  bell_.ring();
  EXPECT_TRUE(readable(fd));
}

TEST_F(TaskBellTest, IsReadableWhenTheReactorIs) {
  const int fd = bell_.open(pipe_[0]);
  ASSERT_EQ(::write(pipe_[1], "x", 1), 1);
  EXPECT_TRUE(readable(fd));
  bell_.quiet();
  EXPECT_TRUE(readable(fd)) << "the frames are still to be polled";
}

TEST_F(TaskBellTest, IsSilentWhileTheLoopItselfPolls) {
  const int fd = bell_.open(pipe_[0]);
  bell_.set_loop_polls(true);
  bell_.ring();
  EXPECT_FALSE(readable(fd));
  bell_.set_loop_polls(false);
  bell_.ring();
  EXPECT_TRUE(readable(fd));
}

TEST_F(TaskBellTest, DoesNothingBeforeALoopAsks) {
  bell_.ring();
  bell_.quiet();
  EXPECT_FALSE(readable(bell_.open(pipe_[0])));
}

TEST_F(TaskBellTest, GivesTheSameDescriptorEveryTime) {
  const int fd = bell_.open(pipe_[0]);
  EXPECT_EQ(bell_.open(pipe_[0]), fd);
}

}  // namespace
}  // namespace aktis::core
