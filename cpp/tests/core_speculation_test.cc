// When tasks run a second time, where, and what the two runs mean to the leases that they occupy.
#include "core/speculation.h"
#include "tests/core_scheduling_fixture.h"

namespace aktis::core {
namespace {

TEST(SpeculationTest, NothingIsSaidBeforeEnoughHaveEnded) {
  Speculation policy({.min_finished = 3});
  EXPECT_EQ(policy.limit(0.5), std::nullopt);
  for (int i = 0; i < 2; ++i) policy.finished(seconds(1));
  EXPECT_EQ(policy.limit(0.5), std::nullopt);
  policy.finished(seconds(1));
  EXPECT_EQ(policy.limit(0.5), milliseconds(1500));
}

TEST(SpeculationTest, TheLimitIsAMultipleOfTheQuantile) {
  Speculation policy({.factor = 2});
  for (int i = 1; i <= 100; ++i) policy.finished(seconds(i));
  EXPECT_EQ(policy.limit(0.5), seconds(100));
  EXPECT_EQ(policy.limit(0.95), seconds(190));
  EXPECT_EQ(policy.limit(0.999), seconds(200));
  EXPECT_EQ(policy.limit(0.001), seconds(2));
}

TEST(SpeculationTest, ShortTasksAreLeftAlone) {
  Speculation policy;
  for (int i = 0; i < 10; ++i) policy.finished(microseconds(10));
  EXPECT_EQ(policy.limit(0.95), milliseconds(100));
}

TEST(SpeculationTest, OnlyWhatEndedLatelyCounts) {
  Speculation policy({.factor = 1});
  for (int i = 0; i < 1000; ++i) policy.finished(seconds(100));
  for (int i = 0; i < 256; ++i) policy.finished(seconds(1));
  EXPECT_EQ(policy.limit(0.99), seconds(1));
}

TEST(SpeculationTest, OneMayAlwaysRunTwiceAndNeverMoreThanAShare) {
  Speculation policy({.share = 0.1});
  EXPECT_EQ(policy.allowed(1, 0), 1u);
  EXPECT_EQ(policy.allowed(19, 0), 1u);
  EXPECT_EQ(policy.allowed(19, 1), 0u);
  EXPECT_EQ(policy.allowed(100, 4), 6u);
  EXPECT_EQ(policy.allowed(5, 4), 0u);
}

class CopiesTest : public SchedulingTest {
 protected:
  // Idle leases stay, however long a test's tasks take.
  CopiesTest() { scheduling_.set_config({.lease_grace = std::chrono::hours(1)}); }
  TaskRecord& submit(double quantile = 0.95) {
    TaskRecord& task = make_task();
    auto shape = std::make_shared<TaskTemplate>(*task.shape);
    shape->speculative = quantile;
    task.shape = shape;
    scheduling_.enqueue(task, now_);
    return task;
  }
  // A class whose tasks usually take a second, with so many leases.
  void usual(LeaseId leases) {
    for (LeaseId id = 1; id <= leases; ++id) lease(id);
    for (int i = 0; i < 5; ++i) reply(submit(), seconds(1));
    out_.pushed.clear();
  }
  void pass(Nanoseconds time) {
    now_ += time;
    scheduling_.tick(now_);
  }
};

TEST_F(CopiesTest, AStragglerRunsOnceMoreOnAnIdleLease) {
  usual(2);
  TaskRecord& task = submit();
  pass(milliseconds(1500));
  EXPECT_EQ(out_.copies.size(), 0u);
  pass(milliseconds(1));
  ASSERT_EQ(out_.copies.size(), 1u);
  TaskRecord& copy = *out_.copies[0];
  EXPECT_EQ(out_.pushed.back().second, &copy);
  EXPECT_EQ(copy.state, TaskState::kPushed);
  EXPECT_NE(copy.lease, task.lease);
  pass(seconds(100));
  EXPECT_EQ(out_.copies.size(), 1u) << "neither the task nor its copy gets another one";
}

TEST_F(CopiesTest, WhoDidNotAskForItRunsOnce) {
  usual(2);
  submit(0);
  pass(seconds(100));
  EXPECT_EQ(out_.copies.size(), 0u);
}

TEST_F(CopiesTest, TheQuantileIsThatOfTheFunction) {
  for (LeaseId id = 1; id <= 2; ++id) lease(id);
  for (int i = 1; i <= 10; ++i) reply(submit(), seconds(i));
  submit(0.5);
  pass(milliseconds(7501));
  EXPECT_EQ(out_.copies.size(), 1u);
}

TEST_F(CopiesTest, NothingRunsTwiceWhileWorkWaits) {
  usual(1);
  submit();
  TaskRecord& waiting = submit();
  pass(seconds(100));
  EXPECT_EQ(out_.copies.size(), 0u);
  EXPECT_GT(out_.wanted.back(), 0u);
  lease(2);  // for what waits
  EXPECT_EQ(waiting.state, TaskState::kPushed);
  pass(seconds(100));
  EXPECT_EQ(out_.copies.size(), 0u);
}

TEST_F(CopiesTest, ALeaseIsAskedForAndWithdrawnWithTheStraggler) {
  usual(1);
  out_.wanted.clear();
  TaskRecord& task = submit();
  pass(seconds(100));
  EXPECT_EQ(out_.wanted, std::vector<std::uint32_t>{1});
  pass(seconds(1));
  EXPECT_EQ(out_.wanted.size(), 1u);
  reply(task, seconds(101));
  pass(seconds(1));
  EXPECT_EQ(out_.wanted, (std::vector<std::uint32_t>{1, 0}));
}

TEST_F(CopiesTest, TheLeaseThatWasAskedForRunsTheCopy) {
  usual(1);
  out_.wanted.clear();
  submit();
  pass(seconds(100));
  lease(2);
  pass(milliseconds(10));
  EXPECT_EQ(out_.copies.size(), 1u);
  EXPECT_EQ(out_.wanted, std::vector<std::uint32_t>{1}) << "and no second one is asked for";
}

TEST_F(CopiesTest, AWishForACopyGoesWithTheLeases) {
  usual(1);
  submit();
  pass(seconds(100));
  scheduling_.on_lease_broken(1, "killed", now_);
  EXPECT_EQ(out_.wanted.back(), 0u);
}

TEST_F(CopiesTest, OnlyAShareRunsTwiceTheLongestFirst) {
  usual(40);
  TaskRecord& first = submit();
  now_ += milliseconds(1);
  for (int i = 0; i < 30; ++i) submit();
  pass(seconds(100));
  ASSERT_EQ(out_.copies.size(), 3u);
  EXPECT_EQ(out_.copies[0]->id, first.id);
  TaskRecord& copy = *out_.copies[0];
  scheduling_.exchange(first, copy);
  reply(first, seconds(1));
  pass(seconds(1));
  EXPECT_EQ(out_.copies.size(), 3u) << "the run that has not ended yet counts";
  copy.cancel_requested = true;
  scheduling_.on_reply(copy, seconds(200), now_);
  pass(seconds(1));
  EXPECT_EQ(out_.copies.size(), 4u);
}

TEST_F(CopiesTest, ARunThatWasCalledOffTeachesNothing) {
  usual(2);
  TaskRecord& task = submit();
  pass(seconds(100));
  TaskRecord& copy = *out_.copies.at(0);
  reply(task, seconds(1));
  copy.cancel_requested = true;
  scheduling_.on_reply(copy, seconds(1000), now_);
  submit(0.999);
  pass(milliseconds(1501));
  EXPECT_EQ(out_.copies.size(), 2u);
}

TEST_F(CopiesTest, ACopyThatIsGivenBackIsNotQueued) {
  usual(2);
  submit();
  pass(seconds(100));
  TaskRecord* copy = out_.copies.at(0).get();
  const LeaseId id = copy->lease;
  EXPECT_EQ(scheduling_.on_give_back(id, GiveBackReason::kLeaving, {}, now_), std::vector<TaskRecord*>{copy});
  EXPECT_EQ(scheduling_.queued_count(), 0u);
}

TEST_F(CopiesTest, TheLeaseOfACopyBreaks) {
  usual(3);
  TaskRecord& task = submit();
  pass(seconds(100));
  TaskRecord* copy = out_.copies.at(0).get();
  scheduling_.on_lease_broken(copy->lease, "killed", now_);
  EXPECT_EQ(out_.lost, std::vector<TaskRecord*>{copy});
  pass(seconds(100));
  EXPECT_EQ(out_.copies.size(), 1u) << "once is enough";
  reply(task, seconds(1));
}

TEST_F(CopiesTest, NothingRunsTwiceWhileWorkIsOnItsWayToAnIdleLease) {
  lease(1);
  for (int i = 0; i < 5; ++i) reply(submit(), microseconds(1));
  submit();
  TaskRecord& behind = submit();
  lease(2);
  pass(seconds(1));
  ASSERT_EQ(out_.stolen.size(), 1u);
  EXPECT_EQ(out_.copies.size(), 0u);
  scheduling_.on_give_back(1, GiveBackReason::kStolen, std::vector<TaskRecord*>{&behind}, now_);
  EXPECT_EQ(behind.lease, 2u);
}

TEST_F(CopiesTest, TheTaskGoesOnInThePlaceOfItsCopy) {
  usual(2);
  TaskRecord& task = submit();
  pass(seconds(100));
  TaskRecord& copy = *out_.copies.at(0);
  const LeaseId first = task.lease, second = copy.lease;
  scheduling_.exchange(task, copy);
  EXPECT_EQ(task.lease, second);
  EXPECT_EQ(task.attempt, 1u);
  EXPECT_EQ(scheduling_.find(second)->in_flight.front(), &task);
  EXPECT_EQ(scheduling_.find(first)->in_flight.front(), &copy);
  scheduling_.on_lease_broken(first, "killed", now_);
  EXPECT_EQ(out_.lost, std::vector<TaskRecord*>{&copy});
  reply(task, seconds(1));
}

// The worker knows runs by the id of their task: two of one must not be queued behind each other.
TEST_F(CopiesTest, ATaskIsNotSentToWhereItsOtherRunStillIs) {
  usual(2);
  TaskRecord& task = submit();
  pass(seconds(100));
  const LeaseId other = out_.copies.at(0)->lease;
  for (int i = 0; i < 300; ++i) {  // its tasks are short by now: a lease would take many
    TaskRecord& sibling = make_task();
    scheduling_.add_lease(1, 100, WorkerId::random(), now_);
    scheduling_.enqueue(sibling, now_);
    reply(sibling, microseconds(1));
  }
  EXPECT_TRUE(scheduling_.drop_lease(100));
  scheduling_.on_lease_broken(task.lease, "killed", now_);
  scheduling_.find(other)->stuck = false;
  scheduling_.enqueue(task, now_, true);
  EXPECT_EQ(task.state, TaskState::kQueued);
  TaskRecord& sibling = make_task();
  scheduling_.remove_queued(task);
  scheduling_.enqueue(sibling, now_);
  EXPECT_EQ(sibling.lease, other) << "any other task may be";
}

}  // namespace
}  // namespace aktis::core
