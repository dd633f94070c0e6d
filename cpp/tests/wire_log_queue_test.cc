#include <gtest/gtest.h>
#include <poll.h>

#include "wire/log_queue.h"

namespace aktis::wire {
namespace {

bool readable(int fd) {
  pollfd entry{fd, POLLIN, 0};
  return ::poll(&entry, 1, 0) == 1;
}

TEST(LogQueue, HandsOutLinesInOrderAndWakes) {
  LogQueue queue(10);
  EXPECT_FALSE(readable(queue.fd()));
  queue.put(LogLevel::kWarning, "wire", "first");
  queue.put(LogLevel::kInfo, "plasma", "second");
  EXPECT_TRUE(readable(queue.fd()));
  const auto lines = queue.drain();
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[0].message, "first");
  EXPECT_EQ(lines[0].level, LogLevel::kWarning);
  EXPECT_EQ(lines[1].component, "plasma");
  EXPECT_FALSE(readable(queue.fd()));
  EXPECT_TRUE(queue.drain().empty());
}

TEST(LogQueue, CountsWhatDoesNotFit) {
  LogQueue queue(2);
  for (int i = 0; i < 5; ++i) queue.put(LogLevel::kInfo, "wire", std::to_string(i));
  const auto lines = queue.drain();
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_EQ(lines[2].message, "3 lines did not fit in the queue");
  EXPECT_TRUE(queue.drain().empty());
}

}  // namespace
}  // namespace aktis::wire
