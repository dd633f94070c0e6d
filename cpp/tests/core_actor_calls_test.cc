// The order and the fate of calls to actors, from the caller's side.
#include <gtest/gtest.h>

#include "core/actor_calls.h"

namespace aktis::core {
namespace {

struct Recorder : ActorOutlet {
  std::vector<TaskRecord*> pushed;
  std::vector<bool> idle;
  std::vector<TaskRecord*> lost;
  void push_call(const WorkerId&, TaskRecord& task, bool was_idle) override {
    pushed.push_back(&task);
    idle.push_back(was_idle);
  }
  void call_lost(TaskRecord& task, const std::string&) override {
    task.change(TaskState::kSuspended);
    lost.push_back(&task);
  }
};

class ActorCallsTest : public testing::Test {
 protected:
  TaskRecord& call(std::uint32_t unresolved = 0) {
    auto task = std::make_unique<TaskRecord>();
    task->shape = std::make_shared<TaskTemplate>();
    task->id = TaskId::random();
    task->actor = actor_;
    task->unresolved = unresolved;
    tasks_.push_back(std::move(task));
    return *tasks_.back();
  }
  std::vector<TaskRecord*> submit(int count) {
    std::vector<TaskRecord*> calls;
    for (int i = 0; i < count; ++i) {
      calls.push_back(&call());
      EXPECT_EQ(calls_.submit(*calls.back()), nullptr);
    }
    return calls;
  }

  Recorder out_;
  ActorCalls calls_{out_, ActorWindow{.calls = 4, .bytes = 1000}};
  ActorId actor_ = ActorId::random();
  WorkerId worker_ = WorkerId::random();
  std::vector<std::unique_ptr<TaskRecord>> tasks_;
};

TEST_F(ActorCallsTest, CallsWaitForTheActorAndKeepTheirOrder) {
  const auto calls = submit(3);
  EXPECT_TRUE(out_.pushed.empty());
  calls_.connect(actor_, worker_);
  EXPECT_EQ(out_.pushed, calls);
  EXPECT_EQ(out_.idle, (std::vector<bool>{true, false, false}));
}

TEST_F(ActorCallsTest, ACallWithoutItsArgumentsHoldsBackTheNext) {
  calls_.connect(actor_, worker_);
  TaskRecord& waiting = call(1);
  calls_.submit(waiting);
  TaskRecord& next = call();
  calls_.submit(next);
  EXPECT_TRUE(out_.pushed.empty());
  calls_.argument_ready(waiting);
  EXPECT_EQ(out_.pushed, (std::vector<TaskRecord*>{&waiting, &next}));
}

TEST_F(ActorCallsTest, ACallWhoseResultWasLostTakesItsOldPlace) {
  calls_.connect(actor_, worker_);
  TaskRecord& made = *submit(1)[0];
  made.worker = worker_;
  calls_.on_reply(made);
  made.change(TaskState::kFinished);
  calls_.pause(actor_);
  TaskRecord& user = call();
  calls_.submit(user);
  made.change(TaskState::kWaiting);
  ++made.attempt;
  EXPECT_EQ(calls_.submit(made), nullptr);
  out_.pushed.clear();
  calls_.connect(actor_, worker_);
  EXPECT_EQ(out_.pushed, (std::vector<TaskRecord*>{&made, &user}));
  EXPECT_EQ(calls_.worker_of(actor_), worker_);
}

TEST_F(ActorCallsTest, OutOfOrderActorsDoNotWait) {
  calls_.set_options(actor_, true);
  calls_.connect(actor_, worker_);
  TaskRecord& waiting = call(1);
  calls_.submit(waiting);
  TaskRecord& next = call();
  calls_.submit(next);
  EXPECT_EQ(out_.pushed, std::vector<TaskRecord*>{&next});
}

TEST_F(ActorCallsTest, TheWindowBoundsWhatIsInFlight) {
  calls_.connect(actor_, worker_);
  const auto calls = submit(6);
  EXPECT_EQ(out_.pushed.size(), 4u);
  EXPECT_EQ(calls_.pending_calls(actor_), 6u);
  calls_.on_reply(*calls[0]);
  EXPECT_EQ(out_.pushed.size(), 5u);
}

TEST_F(ActorCallsTest, CallsLostWithTheirProcessTakeTheirOldPlace) {
  calls_.connect(actor_, worker_);
  const auto calls = submit(6);
  EXPECT_EQ(calls_.on_worker_lost(worker_, "killed"), std::vector<ActorId>{actor_});
  EXPECT_EQ(out_.lost, (std::vector<TaskRecord*>{calls[0], calls[1], calls[2], calls[3]}));
  calls_.again(*calls[3]);
  calls_.again(*calls[1]);
  out_.pushed.clear();
  calls_.connect(actor_, WorkerId::random());
  EXPECT_EQ(out_.pushed, (std::vector<TaskRecord*>{calls[1], calls[3], calls[4], calls[5]}));
}

TEST_F(ActorCallsTest, TheLossOfAnOlderProcessIsNotTheActors) {
  calls_.connect(actor_, worker_);
  calls_.connect(actor_, WorkerId::random());
  EXPECT_TRUE(calls_.on_worker_lost(worker_, "killed").empty());
  EXPECT_EQ(calls_.state(actor_), ActorCalls::State::kConnected);
}

TEST_F(ActorCallsTest, ADeadActorFailsWhatItHasAndWhatComes) {
  calls_.connect(actor_, worker_);
  const auto calls = submit(6);
  const auto error = OwnedValue::make(ValueKind::kError, {}, {});
  EXPECT_EQ(calls_.fail(actor_, error), calls);
  EXPECT_EQ(calls_.in_flight(), 0u);
  EXPECT_EQ(calls_.submit(call()), error);
  calls_.connect(actor_, worker_);  // too late
  EXPECT_EQ(calls_.state(actor_), ActorCalls::State::kDead);
}

TEST_F(ActorCallsTest, ARemovedCallLetsTheNextGo) {
  calls_.connect(actor_, worker_);
  TaskRecord& waiting = call(1);
  calls_.submit(waiting);
  TaskRecord& next = call();
  calls_.submit(next);
  EXPECT_TRUE(calls_.remove_queued(waiting));
  EXPECT_EQ(out_.pushed, std::vector<TaskRecord*>{&next});
}

TEST_F(ActorCallsTest, CallsInFlightAreBoundedByTheirBytesToo) {
  calls_.connect(actor_, worker_);
  std::vector<TaskRecord*> calls;
  for (const std::size_t bytes : {2000, 600, 300, 200}) {
    calls.push_back(&call());
    calls.back()->sent_bytes = bytes;
    calls_.submit(*calls.back());
  }
  EXPECT_EQ(out_.pushed.size(), 1u);  // one goes in any case, however large
  calls_.on_reply(*calls[0]);
  EXPECT_EQ(out_.pushed.size(), 3u);
  calls_.on_reply(*calls[1]);
  EXPECT_EQ(out_.pushed.size(), 4u);
}

TEST_F(ActorCallsTest, ALostProcessLeavesNoBytesBehind) {
  calls_.connect(actor_, worker_);
  TaskRecord& lost = call();
  lost.sent_bytes = 900;
  calls_.submit(lost);
  calls_.on_worker_lost(worker_, "gone");
  calls_.connect(actor_, WorkerId::random());
  for (int i = 0; i < 2; ++i) {
    TaskRecord& next = call();
    next.sent_bytes = 500;
    calls_.submit(next);
  }
  EXPECT_EQ(out_.pushed.size(), 3u);
}

}  // namespace
}  // namespace aktis::core
