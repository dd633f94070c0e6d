// Records of finished tasks: what they pin, when they go, and what is planned when a result is lost.
#include <gtest/gtest.h>

#include <algorithm>

#include "core/lineage.h"

namespace aktis::core {
namespace {

class LineageTest : public testing::Test {
 protected:
  // A finished task whose results, all of them in shared memory, have one handle each.
  TaskId finish(std::vector<ObjectId> uses = {}, std::uint16_t num_returns = 1, std::size_t args_bytes = 0,
                std::int32_t max_retries = 3, const ActorId& actor = {}) {
    auto task = make(std::move(uses), num_returns, args_bytes, max_retries, actor);
    const TaskId id = task->id;
    keep(std::move(task));
    return id;
  }
  void keep(std::unique_ptr<TaskRecord> task) {
    lineage_.keep(std::move(task), [&](const ObjectId& id) { return is_small(id); });
  }
  bool is_small(const ObjectId& id) { return std::find(small_.begin(), small_.end(), id) != small_.end(); }
  std::unique_ptr<TaskRecord> make(std::vector<ObjectId> uses, std::uint16_t num_returns,
                                   std::size_t args_bytes, std::int32_t max_retries, const ActorId& actor) {
    auto shape = std::make_shared<TaskTemplate>();
    shape->num_returns = num_returns;
    shape->max_retries = max_retries;
    auto task = std::make_unique<TaskRecord>();
    const std::uint64_t number = ++tasks_;
    std::memcpy(task->id.data + 8, &number, sizeof number);
    task->shape = shape;
    task->actor = actor;
    task->uses = std::move(uses);
    task->args = std::make_shared<const OwnedValue>(args_bytes);
    for (std::uint32_t i = 0; i < num_returns; ++i) {
      table_.add_owned(ObjectId::of(task->id, i));
      task->result_stored(i);
    }
    return task;
  }
  ObjectId put() {
    TaskId id;
    const std::uint64_t number = ++tasks_;
    std::memcpy(id.data + 8, &number, sizeof number);
    const ObjectId object = ObjectId::of(id, ObjectId::kPutBit);
    table_.add_owned(object);
    return object;
  }
  static ObjectId result(const TaskId& task, std::uint32_t index = 0) { return ObjectId::of(task, index); }

  void drop(const ObjectId& id) {
    table_.remove_local(id);
    settle();
  }
  // As the core does it; `small_` are values in the owner's memory.
  void settle() {
    do {
      for (auto actions = table_.take_actions(); !actions.empty(); actions = table_.take_actions()) {
        for (const ReferenceAction& action : actions) {
          const bool freed = action.kind == ReferenceAction::Kind::kFreeObject;
          if (freed && action.lineage_kept && is_small(action.object)) {
            lineage_.keep_value(action.object, std::make_shared<const OwnedValue>(kSmallBytes));
          }
          if (action.kind == ReferenceAction::Kind::kLineageDroppable || (freed && !action.lineage_kept)) {
            lineage_.object_gone(action.object);
          }
        }
      }
    } while (lineage_.evict_one());
    table_.validate();
  }
  Recovery plan(const ObjectId& lost) {
    return lineage_.plan(
        lost, [&](const TaskId& task) { return running_ == task; },
        [&](const ActorId& actor) { return std::string(dead_ == actor ? "its actor is dead" : ""); });
  }
  void expect_problem(const ObjectId& lost, const std::string& part) {
    const std::string problem = plan(lost).problem;
    EXPECT_NE(problem.find(part), std::string::npos) << problem;
  }

  static constexpr std::size_t kSmallBytes = 100;
  ReferenceTable table_{WorkerId::random()};
  Lineage lineage_{table_, 1 << 20};
  std::vector<ObjectId> small_;
  TaskId running_ = TaskId::random();
  ActorId dead_ = ActorId::random();
  std::uint64_t tasks_ = 0;
};

TEST_F(LineageTest, TheRecordGoesWithTheLastResult) {
  const TaskId task = finish({}, 2);
  drop(result(task, 0));
  EXPECT_EQ(plan(result(task, 1)).tasks, std::vector<TaskId>{task});
  drop(result(task, 1));
  EXPECT_TRUE(lineage_.idle());
  EXPECT_TRUE(table_.idle());
}

TEST_F(LineageTest, ResultsThatAreNotInSharedMemoryDoNotKeepIt) {
  auto task = make({}, 2, 0, 3, {});
  const TaskId id = task->id;
  task->result_gone(0);  // as if it had been a small one
  keep(std::move(task));
  drop(result(id, 0));
  EXPECT_EQ(lineage_.size(), 1u);
  drop(result(id, 1));
  EXPECT_EQ(lineage_.size(), 0u);
}

TEST_F(LineageTest, FreedArgumentsAreComputedFirst) {
  const TaskId first = finish();
  const TaskId second = finish({result(first)});
  const TaskId third = finish({result(second), result(first)});
  drop(result(first));
  drop(result(second));
  EXPECT_TRUE(table_.is_freed(result(first)));
  const Recovery recovery = plan(result(third));
  EXPECT_EQ(recovery.problem, "");
  EXPECT_EQ(recovery.tasks, (std::vector<TaskId>{first, second, third}));
  EXPECT_EQ(recovery.revived.size(), 2u);
  drop(result(third));
  EXPECT_TRUE(lineage_.idle());
  EXPECT_TRUE(table_.idle());
}

TEST_F(LineageTest, ArgumentsThatLiveAreLeftAlone) {
  const TaskId first = finish();
  const TaskId second = finish({result(first)});
  const Recovery recovery = plan(result(second));
  EXPECT_EQ(recovery.tasks, std::vector<TaskId>{second});
  EXPECT_TRUE(recovery.revived.empty());
}

TEST_F(LineageTest, WhatIsUnderWayIsNotRunTwice) {
  const TaskId first = finish();
  const TaskId second = finish({result(first)});
  drop(result(first));
  running_ = first;
  const Recovery recovery = plan(result(second));
  EXPECT_EQ(recovery.tasks, std::vector<TaskId>{second});
  EXPECT_EQ(recovery.revived, std::vector<ObjectId>{result(first)});
}

TEST_F(LineageTest, ATaskThatRunsAgainHoldsItsArgumentsBeforeThePinsGo) {
  const TaskId first = finish();
  const TaskId second = finish({result(first)});
  drop(result(first));
  auto record = lineage_.take(second, [&](const ObjectId& use) { table_.add_task_use(use); });
  settle();
  EXPECT_EQ(table_.counts(result(first)).state, references::State::kOwned);
  EXPECT_NE(lineage_.find(first), nullptr);
  EXPECT_EQ(lineage_.find(second), nullptr);
  // It ends as before: pinned, then let go.
  keep(std::move(record));
  table_.remove_task_use(result(first));
  settle();
  EXPECT_TRUE(table_.is_freed(result(first)));
  drop(result(second));
  EXPECT_TRUE(lineage_.idle());
}

TEST_F(LineageTest, SmallValuesMoveInWhenTheyAreFreed) {
  const ObjectId value = put();
  small_ = {value};
  const TaskId task = finish({value});
  const std::size_t before = lineage_.bytes();
  drop(value);
  EXPECT_EQ(lineage_.bytes(), before + kSmallBytes);
  const Recovery recovery = plan(result(task));
  EXPECT_EQ(recovery.revived, std::vector<ObjectId>{value});
  EXPECT_EQ(recovery.tasks, std::vector<TaskId>{task});
  EXPECT_NE(lineage_.take_value(value), nullptr);
  EXPECT_EQ(lineage_.bytes(), before);
  drop(result(task));
  EXPECT_TRUE(lineage_.idle());
}

TEST_F(LineageTest, WhatSmallValuesContainIsNeededToo) {
  const TaskId inner = finish();
  const ObjectId box = put(), crate = put();
  small_ = {box, crate};
  table_.set_contained(box, std::vector{result(inner)});
  table_.set_contained(crate, std::vector{box});
  const TaskId task = finish({crate});
  for (const ObjectId& id : {crate, box, result(inner)}) drop(id);
  EXPECT_TRUE(table_.is_freed(result(inner)));
  EXPECT_EQ(table_.formerly_contained(crate), std::vector{box});
  EXPECT_TRUE(table_.contained(crate).empty());
  const Recovery recovery = plan(result(task));
  EXPECT_EQ(recovery.problem, "");
  EXPECT_EQ(recovery.tasks.size(), 2u);
  EXPECT_EQ(recovery.revived.size(), 3u);
  std::vector<ObjectId> used;
  const auto record = lineage_.take(task, [&](const ObjectId& use) {
    used.push_back(use);
    table_.add_task_use(use);
  });
  EXPECT_EQ(used.size(), 3u);
  EXPECT_EQ(record->uses, used);
  table_.set_contained(crate, table_.formerly_contained(crate));
  table_.remove_task_use(record->uses);
  table_.validate();
  drop(result(task));
  EXPECT_TRUE(table_.idle());
  EXPECT_TRUE(lineage_.idle());
}

TEST_F(LineageTest, ReasonsWhyNot) {
  expect_problem(put(), "put()");
  const auto once = make({}, 1, 0, 0, {});
  lineage_.decline(*once, 1);
  expect_problem(result(once->id), "max_retries=0");
  const auto used_up = make({}, 1, 0, 3, {});
  lineage_.decline(*used_up, 1);
  expect_problem(result(used_up->id), "no retries left");
  const auto method = make({}, 1, 0, 0, ActorId::random());
  lineage_.decline(*method, 1);
  expect_problem(result(method->id), "max_task_retries=0");
  expect_problem(result(finish({}, 1, 0, 3, dead_)), "actor is dead");
  for (const auto* task : {&once, &used_up, &method}) drop(result((*task)->id));
  expect_problem(result(once->id), "nothing is known");
}

TEST_F(LineageTest, ReasonsNameTheArgument) {
  const ObjectId value = put();
  const TaskId middle = finish({value});
  const TaskId task = finish({result(middle)});
  drop(value);
  drop(result(middle));
  expect_problem(result(task), value.hex());
  expect_problem(result(task), "put()");
  const ObjectId borrowed = ObjectId::of(TaskId::random(), 0);
  table_.add_borrowed(borrowed, WorkerId::random(), Cover::none());
  const TaskId borrower = finish({borrowed});
  EXPECT_EQ(plan(result(borrower)).problem, "");
  drop(borrowed);
  expect_problem(result(borrower), "another process");
}

TEST_F(LineageTest, TheOldestGoFirstAndSaySo) {
  std::vector<TaskId> tasks;
  for (int i = 0; i < 4; ++i) tasks.push_back(finish({}, 2, 1000));
  lineage_.set_limit(lineage_.bytes() / 2);
  settle();
  EXPECT_EQ(lineage_.size(), 2u);
  expect_problem(result(tasks[0]), "evicted");
  expect_problem(result(tasks[1], 1), "core.lineage_bytes");
  EXPECT_EQ(plan(result(tasks[2])).problem, "");
  for (const TaskId& task : tasks) {
    drop(result(task, 0));
    drop(result(task, 1));
  }
  EXPECT_TRUE(lineage_.idle());
  EXPECT_TRUE(table_.idle());
}

TEST_F(LineageTest, AnEvictedLinkBreaksTheChain) {
  const TaskId first = finish({}, 1, 5000);
  const TaskId second = finish({result(first)});
  drop(result(first));
  lineage_.set_limit(4000);
  settle();
  expect_problem(result(second),
                 "its argument " + result(first).hex() + " is gone too: its lineage was evicted");
  drop(result(second));
  EXPECT_TRUE(lineage_.idle());
  EXPECT_TRUE(table_.idle());
}

TEST_F(LineageTest, NothingRemainsOfManyTasks) {
  for (int i = 0; i < 1000; ++i) drop(result(finish()));
  EXPECT_TRUE(lineage_.idle());
}

TEST_F(LineageTest, AVeryLongChainIsPlannedAndDroppedWithoutRecursion) {
  constexpr int kLength = 200'000;  // far more frames than a stack holds
  lineage_.set_limit(std::size_t{1} << 40);
  TaskId last = finish();
  for (int i = 1; i < kLength; ++i) {
    const TaskId next = finish({result(last)});
    table_.remove_local(result(last));
    table_.take_actions();
    last = next;
  }
  EXPECT_EQ(plan(result(last)).tasks.size(), static_cast<std::size_t>(kLength));
  drop(result(last));
  EXPECT_TRUE(lineage_.idle());
  EXPECT_TRUE(table_.idle());
}

}  // namespace
}  // namespace aktis::core
