// The owner's scheduling of tasks on leases, with an outlet that records and a clock of its own.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>

#include "tests/core_scheduling_fixture.h"

namespace aktis::core {
namespace {

TEST_F(SchedulingTest, AsksForLeasesAndPushesWhenOneComes) {
  TaskRecord& task = enqueue();
  EXPECT_EQ(out_.wanted, std::vector<std::uint32_t>{1});
  EXPECT_TRUE(out_.pushed.empty());
  lease(7);
  ASSERT_EQ(out_.pushed.size(), 1u);
  EXPECT_EQ(out_.pushed[0], std::pair(LeaseId{7}, &task));
  EXPECT_EQ(task.state, TaskState::kPushed);
}

TEST_F(SchedulingTest, UnknownTasksAreNotQueuedBehindOneAnother) {
  lease(1);
  enqueue();
  TaskRecord& second = enqueue();
  EXPECT_EQ(out_.pushed.size(), 1u);
  EXPECT_EQ(second.state, TaskState::kQueued);
}

TEST_F(SchedulingTest, MicrosecondTasksFillThePipe) {
  lease(1);
  learn(microseconds(20));
  for (int i = 0; i < 200; ++i) enqueue();
  EXPECT_EQ(out_.pushed.size(), 100u);  // 2 ms of 20 us
}

TEST_F(SchedulingTest, LongTasksAreOneAtATime) {
  lease(1);
  learn(microseconds(20));
  learn(seconds(1));
  for (int i = 0; i < 3; ++i) enqueue();
  EXPECT_EQ(out_.pushed.size(), 1u);
}

TEST_F(SchedulingTest, TheLeastLoadedLeaseIsChosen) {
  lease(1);
  lease(2);
  learn(microseconds(20));
  for (int i = 0; i < 10; ++i) enqueue();
  std::map<LeaseId, int> count;
  for (const auto& [id, task] : out_.pushed) ++count[id];
  EXPECT_EQ(count[1], 5);
  EXPECT_EQ(count[2], 5);
}

TEST_F(SchedulingTest, AnIdleLeaseStealsFromALoadedOne) {
  lease(1);
  learn(microseconds(200));
  for (int i = 0; i < 10; ++i) enqueue();
  ASSERT_EQ(out_.pushed.size(), 10u);
  lease(2);
  ASSERT_EQ(out_.stolen.size(), 1u);
  EXPECT_EQ(out_.stolen[0].first, 1u);
  EXPECT_EQ(out_.stolen[0].second, 5u);  // half of the nine that have not started
  std::vector<TaskRecord*> given;
  for (int i = 5; i < 10; ++i) given.push_back(out_.pushed[i].second);
  out_.pushed.clear();
  scheduling_.on_give_back(1, GiveBackReason::kStolen, given, now_);
  ASSERT_EQ(out_.pushed.size(), 5u);
  for (std::size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(out_.pushed[i].second, given[i]);  // in their order
    EXPECT_EQ(out_.pushed[i].first, 2u);
  }
}

TEST_F(SchedulingTest, WhatIsStuckBehindALongTaskIsStolenByTheTick) {
  lease(1);
  learn(microseconds(1));
  for (int i = 0; i < 4; ++i) enqueue();
  lease(2);
  EXPECT_TRUE(out_.stolen.empty());  // three microseconds are not worth it
  now_ += milliseconds(6);
  scheduling_.tick(now_);
  ASSERT_EQ(out_.stolen.size(), 1u);
  EXPECT_EQ(out_.stolen[0].second, 3u);
}

TEST_F(SchedulingTest, WhatIsStuckBehindTheOnlyLeaseAsksForAnother) {
  lease(1);
  learn(microseconds(20));
  TaskRecord& endless = enqueue();
  TaskRecord& behind = enqueue();
  EXPECT_EQ(out_.wanted, std::vector<std::uint32_t>{}) << "20 us are not worth another worker";
  now_ += milliseconds(10);
  scheduling_.tick(now_);
  EXPECT_EQ(out_.wanted, std::vector<std::uint32_t>{1});
  EXPECT_EQ(enqueue().state, TaskState::kQueued) << "nothing more is queued behind it";
  lease(2);
  EXPECT_EQ(out_.pushed.back().first, 2u);
  reply(*out_.pushed.back().second, microseconds(20));
  EXPECT_EQ(out_.stolen.back(), std::pair(LeaseId{1}, 1u));
  TaskRecord* const given[] = {&behind};
  scheduling_.on_give_back(1, GiveBackReason::kStolen, given, now_);
  EXPECT_EQ(out_.pushed.back(), std::pair(LeaseId{2}, &behind));
  reply(behind, microseconds(20));
  reply(endless, milliseconds(10));
  EXPECT_EQ(enqueue().lease, 1u);
}

TEST_F(SchedulingTest, ABlockedWorkerGetsNothingUntilItAnswers) {
  lease(1);
  learn(microseconds(20));
  TaskRecord& running = enqueue();
  TaskRecord& queued = enqueue();
  TaskRecord* given[] = {&queued};
  scheduling_.on_give_back(1, GiveBackReason::kBlocked, given, now_);
  EXPECT_EQ(queued.state, TaskState::kQueued);
  EXPECT_EQ(out_.wanted.back(), 1u);  // somebody else must run it
  reply(running, microseconds(20));
  EXPECT_EQ(queued.state, TaskState::kPushed);
}

TEST_F(SchedulingTest, WhatReachedABlockedWorkerAfterItRanOnIsNotLeftBehind) {
  lease(1);
  learn(microseconds(20));
  TaskRecord& endless = enqueue();
  TaskRecord& queued = enqueue();
  TaskRecord& on_its_way = enqueue();  // and does not wait any more when this one comes
  TaskRecord* given[] = {&queued};
  scheduling_.on_give_back(1, GiveBackReason::kBlocked, given, now_);
  lease(2);
  reply(queued, microseconds(20));
  now_ += milliseconds(10);
  scheduling_.tick(now_);
  ASSERT_EQ(out_.stolen.size(), 1u);
  EXPECT_EQ(out_.stolen[0], std::pair(LeaseId{1}, 1u));
  scheduling_.on_give_back(1, GiveBackReason::kStolen, {}, now_);
  scheduling_.drop_lease(2);
  out_.wanted.clear();
  scheduling_.tick(now_);
  EXPECT_EQ(out_.wanted, std::vector<std::uint32_t>{1}) << "somebody must come who takes it";
  lease(3);
  EXPECT_EQ(out_.stolen.size(), 2u);
  TaskRecord* stolen[] = {&on_its_way};
  scheduling_.on_give_back(1, GiveBackReason::kStolen, stolen, now_);
  EXPECT_EQ(on_its_way.lease, 3u);
  EXPECT_EQ(endless.state, TaskState::kPushed);
}

TEST_F(SchedulingTest, AClassWithTasksStarvesUntilItsFirstLease) {
  EXPECT_FALSE(scheduling_.starves());
  enqueue();
  enqueue();
  EXPECT_TRUE(scheduling_.starves());
  lease(1);
  EXPECT_FALSE(scheduling_.starves()) << "the second task waits, but not for the raylet";
}

TEST_F(SchedulingTest, OfABrokenLeaseOnlyTheFirstTaskIsLost) {
  lease(1);
  learn(microseconds(20));
  std::vector<TaskRecord*> tasks;
  for (int i = 0; i < 10; ++i) tasks.push_back(&enqueue());
  reply(*tasks[0], microseconds(20));
  scheduling_.on_lease_broken(1, "killed", now_);
  EXPECT_EQ(out_.lost, std::vector<TaskRecord*>{tasks[1]});
  for (int i = 2; i < 10; ++i) EXPECT_EQ(tasks[i]->state, TaskState::kQueued);
  out_.pushed.clear();
  lease(2);
  ASSERT_EQ(out_.pushed.size(), 8u);
  EXPECT_EQ(out_.pushed[0].second, tasks[2]);
}

TEST_F(SchedulingTest, ACancelledTaskThatIsGivenBackIsHandedToTheCaller) {
  lease(1);
  learn(microseconds(20));
  enqueue();
  TaskRecord& task = enqueue();
  task.cancel_requested = true;
  TaskRecord* given[] = {&task};
  EXPECT_EQ(scheduling_.on_give_back(1, GiveBackReason::kStolen, given, now_),
            std::vector<TaskRecord*>{&task});
}

TEST_F(SchedulingTest, AnIdleLeaseGoesBackAfterItsGrace) {
  lease(1);
  now_ += milliseconds(900);
  scheduling_.tick(now_);
  EXPECT_TRUE(out_.returned.empty());
  now_ += milliseconds(200);
  scheduling_.tick(now_);
  scheduling_.tick(now_);
  EXPECT_EQ(out_.returned, std::vector<LeaseId>{1});
  EXPECT_EQ(scheduling_.find(1), nullptr);
  EXPECT_FALSE(scheduling_.drop_lease(1));
}

TEST_F(SchedulingTest, WhileOthersWaitALeaseGoesBackAsSoonAsItIsIdle) {
  lease(1);
  TaskRecord& task = enqueue();
  EXPECT_TRUE(scheduling_.reclaim(0).empty());
  reply(task, microseconds(20));
  EXPECT_EQ(out_.returned, std::vector<LeaseId>{1});
  lease(2);  // the others have been served
  EXPECT_EQ(out_.returned, std::vector<LeaseId>{1});
}

TEST_F(SchedulingTest, ALeaseBeyondTheFairShareGoesBackInSpiteOfABacklog) {
  lease(1);
  learn(microseconds(20));
  TaskRecord& running = enqueue();
  TaskRecord& queued = enqueue();
  EXPECT_TRUE(scheduling_.reclaim(1).empty());
  ASSERT_EQ(out_.stolen.size(), 1u);
  TaskRecord* given[] = {&queued};
  scheduling_.on_give_back(1, GiveBackReason::kStolen, given, now_);
  EXPECT_EQ(queued.state, TaskState::kQueued);
  EXPECT_EQ(out_.wanted.back(), 1u);
  reply(running, microseconds(20));
  EXPECT_EQ(out_.returned, std::vector<LeaseId>{1});
  EXPECT_EQ(queued.state, TaskState::kQueued);
}

TEST_F(SchedulingTest, ALeaseWithWorkIsNotDropped) {
  lease(1);
  enqueue();
  EXPECT_FALSE(scheduling_.drop_lease(1));
}

TEST_F(SchedulingTest, TheDemandIsWithdrawnWhenNothingWaits) {
  TaskRecord& task = enqueue();
  EXPECT_TRUE(scheduling_.remove_queued(task));
  EXPECT_EQ(out_.wanted, (std::vector<std::uint32_t>{1, 0}));
}

TEST_F(SchedulingTest, ALateReplyOfABrokenLeaseIsIgnored) {
  lease(1);
  TaskRecord& task = enqueue();
  scheduling_.on_lease_broken(1, "killed", now_);
  scheduling_.on_reply(task, microseconds(1), now_);
  EXPECT_EQ(task.state, TaskState::kSuspended);
}

TEST_F(SchedulingTest, WhatALeavingWorkerHasNotAnsweredIsQueuedAgainAndNotLost) {
  lease(1);
  learn(microseconds(20));
  TaskRecord& first = enqueue();
  TaskRecord& second = enqueue();
  EXPECT_TRUE(scheduling_.on_give_back(1, GiveBackReason::kLeaving, {}, now_).empty());
  EXPECT_EQ(first.state, TaskState::kQueued);
  now_ += seconds(2);
  scheduling_.tick(now_);
  EXPECT_TRUE(out_.returned.empty());  // its worker is not to be leased to anybody else
  EXPECT_TRUE(scheduling_.reclaim(0).empty());
  scheduling_.on_lease_broken(1, "gone", now_);
  EXPECT_TRUE(out_.lost.empty());
  out_.pushed.clear();
  lease(2);
  ASSERT_EQ(out_.pushed.size(), 2u);
  EXPECT_EQ(out_.pushed[0].second, &first);
  EXPECT_EQ(out_.pushed[1].second, &second);
}

TEST_F(SchedulingTest, AWorkerThatEndsAfterSoManyRunsIsNotGivenMore) {
  auto shape = std::make_shared<TaskTemplate>();
  shape->class_key = 1;
  shape->max_calls = 2;
  std::vector<TaskRecord*> tasks;
  for (int i = 0; i < 5; ++i) {
    tasks.push_back(&make_task());
    tasks.back()->shape = shape;
    scheduling_.enqueue(*tasks.back(), now_);
  }
  EXPECT_EQ(out_.wanted, (std::vector<std::uint32_t>{1, 2}));  // one for every two tasks
  lease(1);
  reply(*tasks[0], microseconds(20));
  reply(*tasks[1], microseconds(20));
  EXPECT_EQ(out_.pushed.size(), 2u);
  EXPECT_TRUE(scheduling_.reclaim(0).empty());
  lease(2);
  TaskRecord* given[] = {tasks[2]};
  scheduling_.on_give_back(2, GiveBackReason::kStolen, given, now_);  // which it has not run then
  EXPECT_EQ(scheduling_.find(2)->in_flight.back(), tasks[2]);
}

TEST_F(SchedulingTest, AsManyLeasesAsItTakesAreAskedForAThousandAtATime) {
  auto shape = std::make_shared<TaskTemplate>();
  shape->class_key = 1;
  shape->max_calls = 1;  // a lease for every task
  constexpr std::size_t kTasks = 3000;
  for (std::size_t i = 0; i < kTasks; ++i) {
    TaskRecord& task = make_task();
    task.shape = shape;
    scheduling_.enqueue(task, now_);
  }
  LeaseId leases = 0;
  for (std::size_t told = 0; told < out_.wanted.size() && leases < kTasks;) {
    told = out_.wanted.size();
    ASSERT_LE(out_.wanted.back(), 1024u);
    for (std::uint32_t left = out_.wanted.back(); left > 0 && told == out_.wanted.size(); --left) {
      lease(++leases);
      reply(*out_.pushed.back().second, microseconds(20));
      scheduling_.on_lease_broken(leases, "it has run what it may", now_);
    }
  }
  EXPECT_EQ(leases, kTasks);
}

TEST_F(SchedulingTest, NothingOfAnEndedClassStartsAndItIsForgottenWithItsLastLease) {
  lease(1);
  TaskRecord& running = enqueue();
  TaskRecord& waiting = enqueue();
  scheduling_.end_class(1);
  EXPECT_TRUE(scheduling_.remove_queued(waiting));
  reply(running, milliseconds(1));
  out_.wanted.clear();
  TaskRecord& late = enqueue();
  EXPECT_EQ(out_.wanted, std::vector<std::uint32_t>{1});
  EXPECT_EQ(late.state, TaskState::kQueued);
  TaskRecord& later = enqueue();
  EXPECT_EQ(out_.wanted.size(), 2u) << "the caller hears of every task";
  EXPECT_TRUE(scheduling_.remove_queued(late));
  EXPECT_TRUE(scheduling_.remove_queued(later));
  EXPECT_EQ(scheduling_.class_count(), 1u);
  EXPECT_TRUE(scheduling_.drop_lease(1));
  EXPECT_EQ(scheduling_.class_count(), 0u);
}

TEST_F(SchedulingTest, AnEndedClassIsForgottenWhenItsLeaseBreaks) {
  lease(1);
  enqueue();
  scheduling_.end_class(1);
  scheduling_.on_lease_broken(1, "killed", now_);
  EXPECT_EQ(out_.lost.size(), 1u);
  EXPECT_EQ(scheduling_.class_count(), 0u);
}

TEST_F(SchedulingTest, AClassWithoutAnythingIsForgottenAtOnce) {
  lease(1);
  scheduling_.drop_lease(1);
  EXPECT_EQ(scheduling_.class_count(), 1u);  // it remembers how long its tasks take
  scheduling_.end_class(1);
  EXPECT_EQ(scheduling_.class_count(), 0u);
}

class PriorityTest : public SchedulingTest {
 protected:
  TaskRecord& enqueue_at(std::int32_t priority, std::uint64_t class_key = 1) {
    TaskRecord& task = make_task(class_key);
    auto shape = std::make_shared<TaskTemplate>(*task.shape);
    shape->priority = priority;
    task.shape = shape;
    scheduling_.enqueue(task, now_);
    return task;
  }
};

TEST_F(PriorityTest, HigherGoesFirstAndEqualOnesKeepTheirOrder) {
  lease(1);
  TaskRecord& running = enqueue();
  TaskRecord* expected[6];
  const std::int32_t priorities[] = {0, 5, -1, 5, 0, 7};
  const int places[] = {3, 1, 5, 2, 4, 0};
  for (int i = 0; i < 6; ++i) expected[places[i]] = &enqueue_at(priorities[i]);
  for (TaskRecord* task = &running; TaskRecord * next : expected) {
    reply(*task, milliseconds(10));
    EXPECT_EQ(out_.pushed.back().second, next);
    task = next;
  }
}

TEST_F(PriorityTest, AClassGivesItsLeasesUpForAMoreUrgentOne) {
  lease(1);
  TaskRecord& running = enqueue_at(0);
  enqueue_at(0);
  TaskRecord& urgent = enqueue_at(1, 2);
  scheduling_.tick(now_);
  reply(running, milliseconds(10));
  EXPECT_EQ(out_.returned, std::vector<LeaseId>{1});
  EXPECT_EQ(out_.pushed.size(), 1u);
  lease(2, 2);
  EXPECT_EQ(out_.pushed.back().second, &urgent);
}

TEST_F(PriorityTest, AClassKeepsItsLeasesFromOneThatIsLessUrgent) {
  lease(1);
  TaskRecord& running = enqueue_at(1);
  enqueue_at(1);
  enqueue_at(0, 2);
  enqueue_at(1, 3);
  scheduling_.tick(now_);
  reply(running, milliseconds(10));
  EXPECT_TRUE(out_.returned.empty());
  EXPECT_EQ(out_.pushed.size(), 2u);
}

// The raylet may give what comes back to somebody else, or need more of it than one lease.
TEST_F(PriorityTest, NoMoreLeasesAreGivenUpAtATimeThanTheMoreUrgentClassWants) {
  for (LeaseId id = 1; id <= 4; ++id) lease(id);
  std::vector<TaskRecord*> running;
  for (int i = 0; i < 4; ++i) running.push_back(&enqueue_at(0));
  for (int i = 0; i < 8; ++i) enqueue_at(0);
  enqueue_at(1, 2);
  for (int i = 0; i < 5; ++i) scheduling_.tick(now_);
  for (TaskRecord* task : running) reply(*task, milliseconds(10));
  EXPECT_EQ(out_.returned.size(), 1u);
  ASSERT_EQ(out_.pushed.size(), 7u);
  now_ += milliseconds(999);
  scheduling_.tick(now_);
  for (int i = 4; i < 7; ++i) reply(*out_.pushed[static_cast<std::size_t>(i)].second, milliseconds(10));
  EXPECT_EQ(out_.returned.size(), 1u);
  now_ += milliseconds(1);
  for (int i = 0; i < 5; ++i) scheduling_.tick(now_);
  for (int i = 7; i < 10; ++i) reply(*out_.pushed[static_cast<std::size_t>(i)].second, milliseconds(10));
  EXPECT_EQ(out_.returned.size(), 2u) << "one more after a while";
}

TEST_F(PriorityTest, ALeaseThatCameMakesRoomForTheNextWish) {
  for (LeaseId id = 1; id <= 2; ++id) lease(id);
  TaskRecord& one = enqueue_at(0);
  TaskRecord& two = enqueue_at(0);
  for (int i = 0; i < 4; ++i) enqueue_at(0);
  enqueue_at(1, 2);
  reply(one, milliseconds(10));
  EXPECT_EQ(out_.returned.size(), 1u);
  lease(3, 2);
  enqueue_at(1, 2);
  reply(two, milliseconds(10));
  EXPECT_EQ(out_.returned.size(), 2u);
}

TEST_F(PriorityTest, NothingIsGivenUpForWhatCanNeverRun) {
  lease(1);
  TaskRecord& running = enqueue_at(0);
  enqueue_at(0);
  enqueue_at(0);
  enqueue_at(1, 2);
  scheduling_.set_infeasible(2, true);
  scheduling_.tick(now_);
  reply(running, milliseconds(10));
  EXPECT_TRUE(out_.returned.empty());
  scheduling_.set_infeasible(2, false);
  reply(*out_.pushed.back().second, milliseconds(10));
  EXPECT_EQ(out_.returned.size(), 1u);
}

// Everything that can happen to a scheduling class, in random order.
class RandomHistory {
 public:
  explicit RandomHistory(std::uint32_t seed) : random_(seed) {}

  void step() {
    now_ += microseconds(random_() % 2000);
    switch (random_() % 7) {
      case 0:
      case 1:
        enqueue();
        break;
      case 2:
        add_lease();
        break;
      case 3:
        reply_one();
        break;
      case 4:
        give_back();
        break;
      case 5:
        break_lease();
        break;
      case 6:
        scheduling_.tick(now_);
        break;
    }
    scheduling_.validate();
  }

  // Replies come until every task has ended; false when some never do.
  bool drain() {
    for (int round = 0; round < 10000; ++round) {
      // No lease, or every lease may be blocked: the demand that was sent brings another.
      if (leases_.empty() || !reply_all()) {
        if (all_finished()) return true;
        add_lease();
      }
    }
    return all_finished();
  }

 private:
  const auto& in_flight(LeaseId id) { return scheduling_.find(id)->in_flight; }

  void enqueue() {
    auto task = std::make_unique<TaskRecord>();
    auto shape = std::make_shared<TaskTemplate>();
    shape->class_key = 1;
    shape->max_retries = 3;
    task->shape = shape;
    task->id = TaskId::random();
    scheduling_.enqueue(*task, now_);
    tasks_.push_back(std::move(task));
  }

  void add_lease() {
    leases_.insert(next_);
    scheduling_.add_lease(1, next_++, WorkerId::random(), now_);
  }

  void reply(LeaseId id, Nanoseconds run_time) {
    TaskRecord* task = in_flight(id).front();
    scheduling_.on_reply(*task, run_time, now_);
    task->change(TaskState::kFinished);
  }

  void reply_one() {
    const auto busy = std::ranges::find_if(leases_, [this](LeaseId id) { return !in_flight(id).empty(); });
    if (busy != leases_.end()) reply(*busy, microseconds(random_() % 3000));
  }

  bool reply_all() {
    bool any = false;
    for (LeaseId id : leases_) {
      for (; !in_flight(id).empty(); any = true) reply(id, microseconds(10));
    }
    return any;
  }

  // The worker keeps the task that it runs and gives back the others.
  void give_back() {
    if (leases_.empty()) return;
    const LeaseId id = *leases_.begin();
    std::vector<TaskRecord*> given(in_flight(id).begin(), in_flight(id).end());
    if (!given.empty()) given.erase(given.begin());
    scheduling_.on_give_back(id, static_cast<GiveBackReason>(random_() % 3), given, now_);
  }

  void break_lease() {
    if (leases_.size() <= 2) return;
    const LeaseId id = *leases_.begin();
    leases_.erase(id);
    scheduling_.on_lease_broken(id, "killed", now_);
    for (TaskRecord* task : std::exchange(out_.lost, {})) scheduling_.enqueue(*task, now_, true);
  }

  bool all_finished() const {
    return std::ranges::all_of(tasks_, [](const auto& task) { return task->state == TaskState::kFinished; });
  }

  std::mt19937 random_;
  Recorder out_;
  Scheduling scheduling_{out_, {}};
  TimePoint now_{seconds(1000)};
  std::vector<std::unique_ptr<TaskRecord>> tasks_;
  std::set<LeaseId> leases_;
  LeaseId next_ = 1;
};

// Every task ends exactly once (its table of states sees to that), none is forgotten.
TEST(SchedulingHistoryTest, RandomSchedulesLoseNothing) {
  for (std::uint32_t seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    RandomHistory history(seed);
    for (int step = 0; step < 300; ++step) history.step();
    ASSERT_TRUE(history.drain());
  }
}

}  // namespace
}  // namespace aktis::core
