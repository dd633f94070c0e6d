// Tasks that run at two places at once, in whole cores: which result counts, and that the other run leaves
// nothing behind: no object, no reference, no record.
#include <array>
#include <random>
#include <set>

#include "plasma/store.h"
#include "tests/core_loopback.h"
#include "tests/plasma_harness.h"

namespace aktis::core::testing {
namespace {

RefId read_ref(std::string_view text) {
  RefId ref;
  std::memcpy(static_cast<void*>(&ref), text.data(), RefId::kBytes);
  return ref;
}

class CoreCopiesTest : public ::testing::Test {
 protected:
  CoreCopiesTest() {
    functions_["quick"] = [](Process&, const TaskHandle&) { return Process::result("quick"); };
    // The first run waits at one gate, the second at another.
    functions_["run"] =
        at_gate([](Process&, const TaskHandle& task) { return Process::result(run_of(task)); });
    functions_["fails once"] = at_gate([this](Process&, const TaskHandle& task) {
      return task->message.attempt == failing_ ? error("failed") : Process::result(run_of(task));
    });
    // Waits so that its process can end meanwhile.
    functions_["dies"] = [this](Process& self, const TaskHandle& task) {
      Gate& gate = gates_.at(task->message.attempt);
      return self.waits_for(gate) ? Process::result(run_of(task)) : error("died");
    };
    functions_["fails"] = at_gate([](Process&, const TaskHandle& task) { return error(run_of(task)); });
    functions_["makes"] = at_gate([](Process& self, const TaskHandle& task) {
      const ObjectId made = self.put(run_of(task));
      const RefId ref = self->ref_of(made);
      ResultParts parts =
          Process::result({reinterpret_cast<const char*>(&ref), static_cast<std::size_t>(RefId::kBytes)});
      parts.nested.push_back(ref);
      Process::results_hold.push_back(made);
      return parts;
    });
    functions_["big"] = at_gate(&big);
    limits_.scheduling.speculation = {.min_finished = 1, .factor = 0, .at_least = {}, .share = 0.1};
  }

  static std::string run_of(const TaskHandle& task) { return "run " + std::to_string(task->message.attempt); }
  static ResultParts big(Process& self, const TaskHandle& task) {
    ResultParts out;
    const std::string text(300'000, 'b');
    const Parts parts{.inband = bytes_of(text), .buffers = {}, .nested = {}};
    EXPECT_TRUE(self->make_result(task, 0, parts, self.waiting(), out));
    return out;
  }
  static ResultParts error(const std::string& text) {
    ResultParts parts;
    parts.value = OwnedValue::make(ValueKind::kError, bytes_of(text), {});
    return parts;
  }
  Process::Function at_gate(const Process::Function& function) {
    return [this, function](Process& self, const TaskHandle& task) {
      gates_.at(task->message.attempt).pass();
      if (task->cancelled) ++told_to_end_;
      return function(self, task);
    };
  }

  std::unique_ptr<Process> process(wire::Role role = wire::Role::kWorker) {
    return std::make_unique<Process>(directory_.path(""), role, limits_);
  }
  // An owner with two workers whose class has learnt how long its tasks take.
  void start(plasma::testing::ScratchDirectory* store = nullptr) {
    owner_ = process(wire::Role::kDriver);
    for (auto& worker : workers_) worker = process();
    if (store != nullptr) {
      for (Process* process : {owner_.get(), workers_[0].get(), workers_[1].get()})
        process->core().connect_plasma(store->socket(), soon());
    }
    for (auto& worker : workers_) worker->run_tasks(functions_);
    owner_->lease(*workers_[0], 1);
    owner_->get_and_drop(owner_->submit({.function = "quick", .speculative = 0.5}));
  }
  // A task that runs on the first worker, and then on the second as well.
  ObjectId run_twice(Process::Call call) {
    call.speculative = 0.5;
    const ObjectId result = owner_->submit(call);
    EXPECT_TRUE(gates_[0].wait_for(1));
    owner_->lease(*workers_[1], 2);
    EXPECT_TRUE(gates_[1].wait_for(1));
    EXPECT_EQ(owner_->statistic("second_runs"), 1);
    return result;
  }
  void fail_run(std::uint32_t failing) {
    failing_ = failing;
    start();
    const ObjectId result = run_twice({.function = "fails once"});
    gates_[failing].open();
    EXPECT_TRUE(owner_->becomes("tasks", 1));  // the records of both were two
    gates_[1 - failing].open();
    EXPECT_EQ(owner_->get_and_drop(result), "run " + std::to_string(1 - failing));
  }
  void kill_run(std::uint32_t dying) {
    start();
    const ObjectId result = run_twice({.function = "dies", .max_retries = 1});
    std::thread end([&] { workers_[dying]->end(); });
    EXPECT_TRUE(owner_->hears(EventKind::kLeaseBroken));
    end.join();
    EXPECT_FALSE(owner_->heard(EventKind::kTaskLost)) << "it is no retry";
    gates_[1 - dying].open();
    EXPECT_EQ(owner_->get_and_drop(result), "run " + std::to_string(1 - dying));
  }
  bool holds_nothing_after(plasma::Store& store, std::uint64_t deletes) {
    for (const auto deadline = soon(); wire::Clock::now() < deadline; owner_->statistic("tasks")) {
      const auto now = store.statistics().engine;
      if (now.deletes == deletes) return now.objects.sealed == 0 && now.objects.created == 0;
    }
    return false;
  }
  static void expect_empty(Process& process) {
    EXPECT_TRUE(process.becomes("tasks", 0));
    EXPECT_TRUE(process.becomes("objects", 0));
    EXPECT_EQ(process.statistic("references"), 0);
    EXPECT_EQ(process.statistic("in_flight_bytes"), 0);
  }
  void TearDown() override {
    for (auto& gate : gates_) gate.open();
    if (owner_) expect_empty(*owner_);
  }

  wire::testing::TemporaryDirectory directory_;
  Process::Functions functions_;
  CoreLimits limits_;
  std::array<Gate, 4> gates_;
  std::atomic<int> told_to_end_{0};
  std::uint32_t failing_ = 0;
  std::unique_ptr<Process> owner_;
  std::array<std::unique_ptr<Process>, 2> workers_;
};

TEST_F(CoreCopiesTest, TheSecondRunWinsAndTheFirstIsToldToEnd) {
  start();
  const ObjectId argument = owner_->put("argument");
  const ObjectId result = run_twice({.function = "run", .references = {argument}});
  owner_->drop(argument);
  gates_[1].open();
  EXPECT_EQ(owner_->get(result), "run 1");
  EXPECT_EQ(owner_->statistic("second_runs_won"), 1);
  owner_->drop(result);
  EXPECT_TRUE(owner_->becomes("objects", 1));  // the first run still uses the argument
  EXPECT_EQ(owner_->statistic("tasks"), 1);
  EXPECT_TRUE(workers_[0]->hears(EventKind::kCancel));
  gates_[0].open();
  EXPECT_TRUE(owner_->becomes("tasks", 0));
  EXPECT_EQ(told_to_end_, 1);
  EXPECT_EQ(owner_->get_and_drop(owner_->submit({.function = "quick"})), "quick");
}

TEST_F(CoreCopiesTest, TheFirstRunWins) {
  start();
  const ObjectId result = run_twice({.function = "run"});
  gates_[0].open();
  EXPECT_EQ(owner_->get_and_drop(result), "run 0");
  EXPECT_EQ(owner_->statistic("second_runs_won"), 0);
  const auto is_recursive = [](const Event& event) {
    return event.kind == EventKind::kCancel && event.number == 1;
  };
  EXPECT_TRUE(workers_[1]->hears(is_recursive)) << "what the loser has submitted ends with it";
}

TEST_F(CoreCopiesTest, AnErrorOfTheFirstRunIsForgottenWhileTheSecondGoesOn) { fail_run(0); }
TEST_F(CoreCopiesTest, AnErrorOfTheSecondRunIsForgottenWhileTheFirstGoesOn) { fail_run(1); }

TEST_F(CoreCopiesTest, TheErrorOfTheLastRunIsTheTasks) {
  start();
  const ObjectId result = run_twice({.function = "fails"});
  gates_[0].open();
  EXPECT_TRUE(owner_->becomes("tasks", 1));
  gates_[1].open();
  EXPECT_EQ(owner_->get_and_drop(result), "error: run 1");
}

TEST_F(CoreCopiesTest, TheWorkerOfTheFirstRunDies) { kill_run(0); }
TEST_F(CoreCopiesTest, TheWorkerOfTheSecondRunDies) { kill_run(1); }

TEST_F(CoreCopiesTest, WhenBothWorkersDieTheTaskIsRetriedOnce) {
  start();
  const ObjectId result = run_twice({.function = "dies", .max_retries = 1});
  workers_[1]->end();
  workers_[0]->end();
  auto third = process();
  third->run_tasks(functions_);
  owner_->lease(*third, 3);
  for (auto& gate : gates_) gate.open();
  // Whichever went last: no run has the number of an earlier one.
  const std::set<std::string> later = {"run 2", "run 3"};
  EXPECT_TRUE(later.contains(owner_->get_and_drop(result)));
  EXPECT_TRUE(owner_->heard(EventKind::kTaskLost));
}

TEST_F(CoreCopiesTest, CancellingEndsBothRuns) {
  start();
  const ObjectId result = run_twice({.function = "run"});
  EXPECT_EQ(owner_->core().workers_of(result.task()).size(), 2u);
  EXPECT_EQ(owner_->core().cancel(result.task(), true, bytes_of("stop")), Core::Cancelled::kSent);
  for (auto& worker : workers_) EXPECT_TRUE(worker->hears(EventKind::kCancel));
  EXPECT_EQ(owner_->core().workers_of(result.task()).size(), 2u);  // for who wants them killed
  gates_[1].open();
  EXPECT_TRUE(owner_->becomes("tasks", 1));
  EXPECT_EQ(owner_->get(result, 0ms), "") << "a second run that was cancelled decides nothing";
  gates_[0].open();
  EXPECT_EQ(owner_->get_and_drop(result), "run 0") << "it did not listen";
}

TEST_F(CoreCopiesTest, ReferencesInTheLosersResultAreLetGo) {
  start();
  const ObjectId result = run_twice({.function = "makes"});
  gates_[1].open();
  const std::string winner = owner_->get(result);
  gates_[0].open();
  EXPECT_TRUE(owner_->becomes("tasks", 0));
  EXPECT_TRUE(workers_[0]->becomes("objects", 0));
  EXPECT_EQ(workers_[1]->statistic("objects"), 1);
  EXPECT_EQ(read_ref(winner).owner, workers_[1]->id());
  owner_->drop(result);
  EXPECT_TRUE(workers_[1]->becomes("objects", 0));
}

TEST_F(CoreCopiesTest, TheLosersLargeResultDoesNotStayInTheStore) {
  plasma::testing::ScratchDirectory scratch;
  plasma::Store store(plasma::testing::small_store(scratch));
  store.start();
  start(&scratch);
  const ObjectId result = run_twice({.function = "big"});
  gates_[1].open();
  EXPECT_EQ(owner_->get_and_drop(result).size(), 300'000u);
  EXPECT_TRUE(holds_nothing_after(store, 1));
  gates_[0].open();  // it stores the result once more, which nobody wants
  EXPECT_TRUE(owner_->becomes("tasks", 0));
  EXPECT_TRUE(holds_nothing_after(store, 2));
}

// Both store under the same ids, so that neither may remove what the other counts on.
TEST_F(CoreCopiesTest, ARunThatFailsLeavesWhatItHasStoredToTheOther) {
  plasma::testing::ScratchDirectory scratch;
  plasma::Store store(plasma::testing::small_store(scratch));
  store.start();
  start(&scratch);
  functions_["stores and fails"] = at_gate([this](Process& self, const TaskHandle& task) {
    const ResultParts out = big(self, task);
    if (task->message.attempt == 0) return out;
    gates_[2].pass();
    self->discard_results(task, 0, std::span(&out, 1));
    return error("failed");
  });
  const ObjectId result = run_twice({.function = "stores and fails"});
  gates_[1].open();
  EXPECT_TRUE(gates_[2].wait_for(1));
  gates_[0].open();  // it finds the result
  EXPECT_EQ(owner_->get(result).size(), 300'000u);
  gates_[2].open();
  EXPECT_TRUE(owner_->becomes("tasks", 0));
  EXPECT_EQ(store.statistics().engine.deletes, 0u);
  owner_->drop(result);
  EXPECT_TRUE(holds_nothing_after(store, 1));
}

TEST_F(CoreCopiesTest, WhatAFailedRunHasStoredGoesWhenTheOtherHasNotStoredIt) {
  plasma::testing::ScratchDirectory scratch;
  plasma::Store store(plasma::testing::small_store(scratch));
  store.start();
  start(&scratch);
  functions_["stores and fails"] = at_gate([](Process& self, const TaskHandle& task) {
    if (task->message.attempt == 0) return Process::result("small");
    big(self, task);
    return error("failed");
  });
  const ObjectId result = run_twice({.function = "stores and fails"});
  gates_[1].open();
  EXPECT_TRUE(owner_->becomes("tasks", 1));
  gates_[0].open();
  EXPECT_EQ(owner_->get_and_drop(result), "small");
  EXPECT_TRUE(holds_nothing_after(store, 1));
}

TEST_F(CoreCopiesTest, EverythingAtOnceWhileWorkersDie) {
  functions_["nap"] = [](Process& self, const TaskHandle& task) {
    std::mt19937 random(std::random_device{}());
    const ObjectId never = self->pending_object();
    self.get(never, std::chrono::milliseconds(random() % 4 == 0 ? 40 : 1));
    self.drop(never);
    return random() % 8 == 0 ? error("failed") : Process::result(run_of(task));
  };
  limits_.scheduling.speculation.share = 1;
  owner_ = process(wire::Role::kDriver);
  std::atomic<bool> stop{false};
  std::thread mortality([&] {
    std::vector<std::unique_ptr<Process>> workers;
    for (LeaseId lease = 1; !stop; ++lease) {
      workers.push_back(process());
      workers.back()->run_tasks(functions_);
      owner_->lease(*workers.back(), lease);
      if (workers.size() > 4) workers.erase(workers.begin());
      const ObjectId never = owner_->core().pending_object();
      owner_->get(never, 20ms);
      owner_->drop(never);
    }
  });
  std::vector<std::thread> users;
  for (unsigned seed = 0; seed < 4; ++seed) {
    users.emplace_back([&, seed] {
      std::mt19937 random(seed);
      for (int i = 0; i < 40; ++i) {
        const ObjectId value = owner_->put("value");
        const ObjectId result =
            owner_->submit({.function = "nap", .references = {value}, .max_retries = -1, .speculative = 0.5});
        owner_->drop(value);
        if (random() % 2 == 0) owner_->get(result, 20ms);
        if (random() % 4 == 0) owner_->core().cancel(result.task(), true, bytes_of("stop"));
        EXPECT_NE(owner_->get_and_drop(result), "");
      }
    });
  }
  for (auto& user : users) user.join();
  stop = true;
  mortality.join();
  EXPECT_GT(owner_->statistic("second_runs_won"), 0);
}

}  // namespace
}  // namespace aktis::core::testing
