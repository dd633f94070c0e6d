#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "wire/timer_queue.h"

namespace aktis::wire {
namespace {

using TimePoint = TimerQueue::TimePoint;

TimePoint at(int second) { return TimePoint{} + std::chrono::seconds(second); }

void run_due(TimerQueue& queue, TimePoint now) {
  while (auto callback = queue.take_due(now)) callback();
}

TEST(TimerQueueTest, HandsOutWhatIsDueInOrder) {
  TimerQueue queue;
  std::string ran;
  queue.add(at(3), [&] { ran += 'c'; });
  queue.add(at(1), [&] { ran += 'a'; });
  queue.add(at(1), [&] { ran += 'b'; });
  EXPECT_EQ(queue.earliest(), at(1));
  run_due(queue, at(0));
  EXPECT_EQ(ran, "");
  run_due(queue, at(2));
  EXPECT_EQ(ran, "ab");
  EXPECT_EQ(queue.earliest(), at(3));
  run_due(queue, at(3));
  EXPECT_EQ(ran, "abc");
  EXPECT_EQ(queue.earliest(), TimePoint::max());
}

TEST(TimerQueueTest, ACancelledTimerIsGoneAndSoIsWhatItHeld) {
  TimerQueue queue;
  auto held = std::make_shared<int>(1);
  const auto id = queue.add(at(1), [held] {});
  queue.add(at(2), [] {});
  EXPECT_EQ(held.use_count(), 2);
  EXPECT_TRUE(queue.cancel(id));
  EXPECT_EQ(held.use_count(), 1);
  EXPECT_EQ(queue.earliest(), at(2));
  EXPECT_FALSE(queue.cancel(id));
  EXPECT_FALSE(queue.cancel(0));
  EXPECT_EQ(queue.size(), 1u);
}

TEST(TimerQueueTest, CancellingLeavesNothingBehind) {
  TimerQueue queue;
  for (int i = 0; i < 1000; ++i) queue.cancel(queue.add(at(i), [] {}));
  EXPECT_EQ(queue.size(), 0u);
}

}  // namespace
}  // namespace aktis::wire
