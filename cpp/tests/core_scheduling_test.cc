// The owner's scheduling of tasks on leases, with an outlet that records and a clock of its own.
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

#include "core/scheduling.h"

namespace aktis::core {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

struct Recorder : SchedulingOutlet {
  std::vector<std::pair<LeaseId, TaskRecord*>> pushed;
  std::vector<std::pair<LeaseId, std::uint32_t>> stolen;
  std::vector<std::uint32_t> wanted;
  std::vector<LeaseId> idle;
  std::vector<TaskRecord*> lost;
  void push(Lease& lease, TaskRecord& task) override { pushed.emplace_back(lease.id, &task); }
  void steal(Lease& victim, std::uint32_t count) override { stolen.emplace_back(victim.id, count); }
  void need_leases(std::uint64_t, std::uint32_t count, std::uint64_t) override { wanted.push_back(count); }
  void lease_idle(LeaseId lease) override { idle.push_back(lease); }
  void task_lost(TaskRecord& task, const std::string&) override {
    task.change(TaskState::kSuspended);
    lost.push_back(&task);
  }
};

class SchedulingTest : public testing::Test {
 protected:
  TaskRecord& make_task(std::uint64_t class_key = 1) {
    auto task = std::make_unique<TaskRecord>();
    auto shape = std::make_shared<TaskTemplate>();
    shape->class_key = class_key;
    shape->max_retries = 3;
    task->shape = shape;
    task->id = TaskId::random();
    tasks_.push_back(std::move(task));
    return *tasks_.back();
  }
  TaskRecord& enqueue() {
    TaskRecord& task = make_task();
    scheduling_.enqueue(task, now_);
    return task;
  }
  void lease(LeaseId id, std::uint64_t class_key = 1) {
    scheduling_.add_lease(class_key, id, WorkerId::random(), now_);
  }
  void reply(TaskRecord& task, Nanoseconds run_time) {
    scheduling_.on_reply(task, run_time, now_);
    task.change(TaskState::kFinished);
  }
  // Teaches the class how long its tasks take.
  void learn(Nanoseconds run_time) {
    TaskRecord& task = enqueue();
    reply(task, run_time);
    out_.pushed.clear();
  }
  void TearDown() override { scheduling_.validate(); }

  Recorder out_;
  Scheduling scheduling_{out_, {}};
  TimePoint now_{seconds(1000)};
  std::vector<std::unique_ptr<TaskRecord>> tasks_;
};

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
  scheduling_.on_give_back(1, false, given, now_);
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

TEST_F(SchedulingTest, ABlockedWorkerGetsNothingUntilItAnswers) {
  lease(1);
  learn(microseconds(20));
  TaskRecord& running = enqueue();
  TaskRecord& queued = enqueue();
  TaskRecord* given[] = {&queued};
  scheduling_.on_give_back(1, true, given, now_);
  EXPECT_EQ(queued.state, TaskState::kQueued);
  EXPECT_EQ(out_.wanted.back(), 1u);  // somebody else must run it
  reply(running, microseconds(20));
  EXPECT_EQ(queued.state, TaskState::kPushed);
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
  EXPECT_EQ(scheduling_.on_give_back(1, false, given, now_), std::vector<TaskRecord*>{&task});
}

TEST_F(SchedulingTest, AnIdleLeaseIsReportedOnceAfterItsGrace) {
  lease(1);
  now_ += milliseconds(900);
  scheduling_.tick(now_);
  EXPECT_TRUE(out_.idle.empty());
  now_ += milliseconds(200);
  scheduling_.tick(now_);
  scheduling_.tick(now_);
  EXPECT_EQ(out_.idle, std::vector<LeaseId>{1});
  EXPECT_TRUE(scheduling_.drop_lease(1));
  EXPECT_FALSE(scheduling_.drop_lease(1));
}

TEST_F(SchedulingTest, WhileOthersWaitALeaseIsReportedAsSoonAsItIsIdle) {
  lease(1);
  TaskRecord& task = enqueue();
  EXPECT_TRUE(scheduling_.reclaim(0).empty());
  reply(task, microseconds(20));
  EXPECT_EQ(out_.idle, std::vector<LeaseId>{1});
  lease(2);  // the others have been served
  EXPECT_EQ(out_.idle, std::vector<LeaseId>{1});
}

TEST_F(SchedulingTest, ALeaseBeyondTheFairShareGoesBackInSpiteOfABacklog) {
  lease(1);
  learn(microseconds(20));
  TaskRecord& running = enqueue();
  TaskRecord& queued = enqueue();
  EXPECT_TRUE(scheduling_.reclaim(1).empty());
  ASSERT_EQ(out_.stolen.size(), 1u);
  TaskRecord* given[] = {&queued};
  scheduling_.on_give_back(1, false, given, now_);
  EXPECT_EQ(queued.state, TaskState::kQueued);
  EXPECT_EQ(out_.wanted.back(), 1u);
  reply(running, microseconds(20));
  EXPECT_EQ(out_.idle, std::vector<LeaseId>{1});
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

// Random schedules of everything that can happen; every task ends exactly once, none is forgotten.
TEST_F(SchedulingTest, RandomSchedulesLoseNothing) {
  for (std::uint32_t seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    Recorder out;
    Scheduling scheduling(out, {});
    std::vector<TaskRecord*> open;
    std::set<LeaseId> leases;
    LeaseId next = 1;
    for (int step = 0; step < 300; ++step) {
      now_ += microseconds(random() % 2000);
      const auto in_flight = [&](LeaseId id) { return scheduling.find(id)->in_flight; };
      switch (random() % 7) {
        case 0:
        case 1: {
          TaskRecord& task = make_task();
          open.push_back(&task);
          scheduling.enqueue(task, now_);
          break;
        }
        case 2:
          leases.insert(next);
          scheduling.add_lease(1, next++, WorkerId::random(), now_);
          break;
        case 3:
          for (LeaseId id : leases) {
            if (in_flight(id).empty()) continue;
            TaskRecord* task = in_flight(id).front();
            scheduling.on_reply(*task, microseconds(random() % 3000), now_);
            task->change(TaskState::kFinished);
            break;
          }
          break;
        case 4:
          if (!leases.empty()) {
            const LeaseId id = *leases.begin();
            std::vector<TaskRecord*> given;
            const auto tasks = in_flight(id);
            for (std::size_t i = 1; i < tasks.size(); ++i) given.push_back(tasks[i]);
            scheduling.on_give_back(id, random() % 2 == 0, given, now_);
          }
          break;
        case 5:
          if (leases.size() > 2) {
            const LeaseId id = *leases.begin();
            leases.erase(id);
            scheduling.on_lease_broken(id, "killed", now_);
            for (TaskRecord* task : std::exchange(out.lost, {})) scheduling.enqueue(*task, now_, true);
          }
          break;
        case 6:
          scheduling.tick(now_);
          break;
      }
      scheduling.validate();
    }
    for (int round = 0; round < 10000; ++round) {
      if (leases.empty()) {
        leases.insert(next);
        scheduling.add_lease(1, next++, WorkerId::random(), now_);
      }
      bool any = false;
      for (LeaseId id : leases) {
        while (!scheduling.find(id)->in_flight.empty()) {
          TaskRecord* task = scheduling.find(id)->in_flight.front();
          scheduling.on_reply(*task, microseconds(10), now_);
          task->change(TaskState::kFinished);
          any = true;
        }
      }
      if (!any) {
        const bool done = std::all_of(open.begin(), open.end(), [](const TaskRecord* task) {
          return task->state == TaskState::kFinished;
        });
        if (done) break;
        // Every lease may be blocked: the demand that it sent brings another.
        leases.insert(next);
        scheduling.add_lease(1, next++, WorkerId::random(), now_);
      }
    }
    for (const TaskRecord* task : open) ASSERT_EQ(task->state, TaskState::kFinished);
  }
}

}  // namespace
}  // namespace aktis::core
