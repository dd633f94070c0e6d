// The owner's scheduling with an outlet that records and a clock of its own.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/scheduling.h"

namespace aktis::core {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

struct Recorder : SchedulingOutlet {
  std::vector<std::pair<LeaseId, TaskRecord*>> pushed;
  std::vector<std::pair<LeaseId, std::uint32_t>> stolen;
  std::vector<std::uint32_t> wanted;
  std::vector<LeaseId> returned;
  std::vector<TaskRecord*> lost;
  std::vector<std::unique_ptr<TaskRecord>> copies;
  void push(Lease& lease, TaskRecord& task) override { pushed.emplace_back(lease.id, &task); }
  void steal(Lease& victim, std::uint32_t count) override { stolen.emplace_back(victim.id, count); }
  void need_leases(std::uint64_t, const LeaseWish& wish) override { wanted.push_back(wish.wanted); }
  void return_lease(LeaseId lease) override { returned.push_back(lease); }
  void task_lost(TaskRecord& task, const std::string&) override {
    task.change(TaskState::kSuspended);
    lost.push_back(&task);
  }
  TaskRecord& copy(TaskRecord& task) override {
    copies.push_back(std::make_unique<TaskRecord>());
    TaskRecord& made = *copies.back();
    made.id = task.id;
    made.shape = task.shape;
    made.attempt = task.attempt + 1;
    made.speculated = task.speculated = made.is_copy = true;
    return made;
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

}  // namespace aktis::core
