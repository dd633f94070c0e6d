// The queue to the policy thread: what supersedes what, and its bounds.
#include <gtest/gtest.h>

#include <thread>

#include "core/events.h"

namespace aktis::core {
namespace {

Event need(std::uint64_t key, std::int64_t wanted) {
  Event event{.kind = EventKind::kNeedLeases, .number = wanted};
  event.key = key;
  return event;
}
Event control(std::size_t bytes) { return {.kind = EventKind::kControl, .first = std::string(bytes, 'c')}; }
Event about(EventKind kind, std::string what, std::int64_t number = 0, std::string text = {}) {
  return {.kind = kind, .first = std::move(what), .text = std::move(text), .number = number};
}

TEST(EventQueueTest, TheLatestWishOfAClassCounts) {
  EventQueue queue(100);
  for (int wanted = 1; wanted <= 1000; ++wanted) {
    queue.push(need(1, wanted));
    queue.push(need(2, 2 * wanted));
  }
  EXPECT_EQ(queue.size(), 2u);
  const auto events = queue.take();
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0].key, 1u);
  EXPECT_EQ(events[0].number, 1000);
  EXPECT_EQ(events[1].number, 2000);
  queue.push(need(1, 5));
  EXPECT_EQ(queue.take().at(0).number, 5);
}

TEST(EventQueueTest, AReturnedLeaseWakesNobodyAndIsHeardOfWithTheNextEvent) {
  EventQueue queue(100);
  queue.push({.kind = EventKind::kLeaseReturned, .number = 1});
  EXPECT_FALSE(queue.waiter().completed());
  queue.push(need(1, 1));
  EXPECT_TRUE(queue.waiter().completed());
  EXPECT_EQ(queue.take().size(), 2u);
}

TEST(EventQueueTest, ACancelIsRecursiveWhenAnyRequestWas) {
  EventQueue queue(100);
  queue.push(about(EventKind::kCancel, "task", 0));
  queue.push(about(EventKind::kCancel, "task", 1));
  queue.push(about(EventKind::kCancel, "task", 0));
  queue.push(about(EventKind::kCancel, "other", 0));
  const auto events = queue.take();
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0].number, 1);
  EXPECT_EQ(events[1].number, 0);
}

TEST(EventQueueTest, AnObjectIsLostOnceForTheLatestReason) {
  EventQueue queue(100);
  queue.push(about(EventKind::kObjectLost, "object", 0, "first"));
  queue.push(about(EventKind::kObjectLost, "object", 0, "second"));
  const auto events = queue.take();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].text, "second");
}

TEST(EventQueueTest, OtherKindsAreKeptAsTheyCame) {
  EventQueue queue(100);
  for (const char* name : {"a", "b", "a"}) queue.push(about(EventKind::kObjectReady, name));
  const auto events = queue.take();
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(events[2].first, "a");
}

TEST(EventQueueTest, ControlMessagesAreBoundedByTheirBytes) {
  EventQueue queue(100);
  EXPECT_TRUE(queue.push(control(60)));
  EXPECT_TRUE(queue.push(control(40)));
  EXPECT_EQ(queue.control_bytes(), 100u);
  EXPECT_FALSE(queue.push(control(1)));
  EXPECT_TRUE(queue.push(about(EventKind::kRayletLost, "")));  // not a control message
  EXPECT_EQ(queue.take().size(), 3u);
  EXPECT_EQ(queue.control_bytes(), 0u);
  EXPECT_TRUE(queue.push(control(100)));
  queue.set_control_limit(200);
  EXPECT_TRUE(queue.push(control(100)));
}

TEST(EventQueueTest, TakingResetsTheWaiterAndPushingCompletesIt) {
  EventQueue queue(100);
  EXPECT_FALSE(queue.waiter().completed());
  queue.push(need(1, 1));
  EXPECT_TRUE(queue.waiter().completed());
  queue.take();
  EXPECT_FALSE(queue.waiter().completed());
  EXPECT_TRUE(queue.empty());
  queue.wake();
  EXPECT_TRUE(queue.waiter().completed());
}

TEST(EventQueueTest, ThreadsPushAndOneTakes) {
  constexpr std::uint64_t kThreads = 4, kEach = 5000;
  EventQueue queue(1 << 20);
  std::vector<std::thread> threads;
  for (std::uint64_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&queue, t] {
      for (std::uint64_t i = 0; i < kEach; ++i) {
        queue.push(need(i % 7, static_cast<std::int64_t>(i)));
        queue.push(about(EventKind::kTaskLost, std::to_string(t)));
      }
    });
  }
  std::size_t lost = 0;
  while (lost < kThreads * kEach) {
    for (const Event& event : queue.take()) lost += event.kind == EventKind::kTaskLost ? 1 : 0;
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(lost, kThreads * kEach);
}

}  // namespace
}  // namespace aktis::core
