#include <gtest/gtest.h>

#include "plasma/admission.h"
#include "plasma/recent_set.h"
#include "tests/plasma_engine_harness.h"

namespace aktis::plasma {
namespace {

using testing::numbered_object;

const wire::TimePoint kStart = wire::TimePoint{} + std::chrono::hours(1);
wire::TimePoint at(int ms) { return kStart + std::chrono::milliseconds(ms); }

PendingCreate pending(SessionId session, std::uint64_t correlation, int deadline_ms) {
  PendingCreate one;
  one.session = session;
  one.correlation = correlation;
  one.request.size_bytes = 100;
  one.deadline = at(deadline_ms);
  return one;
}

TEST(AdmissionQueue, KeepsOrderAndBound) {
  AdmissionQueue queue(2);
  EXPECT_TRUE(queue.push(pending(1, 10, 50)));
  EXPECT_TRUE(queue.push(pending(2, 11, 20)));
  EXPECT_FALSE(queue.push(pending(3, 12, 90)));
  EXPECT_EQ(queue.waiting_bytes(), 200u);
  EXPECT_EQ(queue.front()->correlation, 10u);
  queue.pop();
  EXPECT_EQ(queue.front()->correlation, 11u);
}

TEST(AdmissionQueue, ExpiresByDeadlineNotByOrder) {
  AdmissionQueue queue(10);
  queue.push(pending(1, 10, 50));
  queue.push(pending(1, 11, 20));
  EXPECT_EQ(queue.next_deadline(), at(20));
  EXPECT_TRUE(queue.take_expired(at(19)).empty());
  const auto expired = queue.take_expired(at(20));
  ASSERT_EQ(expired.size(), 1u);
  EXPECT_EQ(expired[0].correlation, 11u);
  EXPECT_EQ(queue.next_deadline(), at(50));
}

TEST(AdmissionQueue, ForgetsAClientThatLeft) {
  AdmissionQueue queue(10);
  queue.push(pending(1, 10, 50));
  queue.push(pending(2, 11, 50));
  queue.drop_session(1);
  EXPECT_EQ(queue.size(), 1u);
  EXPECT_EQ(queue.front()->session, 2u);
  queue.drop_session(2);
  EXPECT_TRUE(queue.empty());
  EXPECT_FALSE(queue.next_deadline());
}

TEST(AdmissionQueue, ForgetsOneCreationOfOneClient) {
  AdmissionQueue queue(10);
  queue.push(pending(1, 10, 50));
  queue.push(pending(2, 10, 50));
  EXPECT_FALSE(queue.drop(1, 11));
  EXPECT_TRUE(queue.drop(1, 10));
  EXPECT_EQ(queue.size(), 1u);
  EXPECT_EQ(queue.front()->session, 2u);
}

TEST(RecentSet, ForgetsByTimeAndByNumber) {
  RecentSet<ObjectId> recent(2, std::chrono::milliseconds(100));
  recent.insert(numbered_object(1), at(0));
  EXPECT_TRUE(recent.contains(numbered_object(1), at(99)));
  EXPECT_FALSE(recent.contains(numbered_object(1), at(100)));
  recent.insert(numbered_object(2), at(50));
  recent.insert(numbered_object(3), at(60));
  EXPECT_FALSE(recent.contains(numbered_object(1), at(60)));  // the oldest of three
  EXPECT_TRUE(recent.take(numbered_object(2), at(60)));
  EXPECT_FALSE(recent.take(numbered_object(2), at(60)));
}

TEST(RecentSet, KeyInsertedAgainLivesOn) {
  RecentSet<ObjectId> recent(10, std::chrono::milliseconds(100));
  recent.insert(numbered_object(1), at(0));
  recent.insert(numbered_object(1), at(50));
  recent.insert(numbered_object(2), at(120));  // sweeps what is over
  EXPECT_TRUE(recent.contains(numbered_object(1), at(140)));
}

}  // namespace
}  // namespace aktis::plasma
