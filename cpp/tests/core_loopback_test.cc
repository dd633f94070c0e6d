// Whole cores that talk over sockets: what each sends the other is what it understands, and no thread gets in
// another's way. Run it under the address and the thread sanitizer.
#include "tests/core_loopback.h"

#include <poll.h>

#include <random>

#include "plasma/store.h"
#include "tests/plasma_harness.h"

namespace aktis::core::testing {

void Process::watch_tasks(const Functions& functions) {
  executors_.emplace_back([this, &functions] {
    pollfd entries[] = {{core_->task_fd(), POLLIN, 0}, {end_event_.get(), POLLIN, 0}};
    do {  // first without waiting: what came before the descriptor was there rings no bell
      core_->poll_tasks();
      for (const TaskHandle& task : core_->take_tasks(64)) run(task, functions);
      ::poll(entries, 2, static_cast<int>(std::chrono::milliseconds(kLimit).count()));
    } while (!ended_);
  });
}

namespace {

RefId read_ref(std::string_view text) {
  RefId ref;
  std::memcpy(static_cast<void*>(&ref), text.data(), RefId::kBytes);
  return ref;
}

class LoopbackTest : public ::testing::Test {
 protected:
  LoopbackTest() {
    functions_["echo"] = [](Process&, const TaskHandle& task) {
      std::string text = Process::args_of(task);
      for (const auto& argument : task->message.arguments) text += text_of_value(argument.value);
      return Process::result(text);
    };
    functions_["fail"] = [](Process&, const TaskHandle& task) {
      ResultParts parts;
      parts.value = OwnedValue::make(ValueKind::kError, bytes_of(Process::args_of(task)), {});
      return parts;
    };
    functions_["gate"] = [this](Process&, const TaskHandle& task) {
      gate_.pass();
      return Process::result(Process::args_of(task));
    };
    functions_["get"] = [](Process& self, const TaskHandle& task) {
      const std::string args = Process::args_of(task);
      const RefId ref = read_ref(args);
      self->adopt_reference(ref, Cover::by_task(task->message.id, task->owner));
      return Process::result(self.get_and_drop(ref.id));
    };
    functions_["keep"] = [this](Process& self, const TaskHandle& task) {
      const RefId ref = read_ref(Process::args_of(task));
      self->adopt_reference(ref, Cover::by_task(task->message.id, task->owner));
      const std::lock_guard guard(mutex_);
      kept_.push_back(ref.id);
      return Process::result("kept");
    };
    functions_["make"] = [](Process& self, const TaskHandle& task) {
      const ObjectId made = self.put(Process::args_of(task));
      const RefId ref = self->ref_of(made);
      ResultParts parts =
          Process::result({reinterpret_cast<const char*>(&ref), static_cast<std::size_t>(RefId::kBytes)});
      parts.nested.push_back(ref);
      Process::results_hold.push_back(made);
      return parts;
    };
    functions_["cancelled"] = [this](Process&, const TaskHandle& task) {
      gate_.pass();
      return Process::result(task->cancelled ? "cancelled" : "not cancelled");
    };
  }

  std::unique_ptr<Process> process(wire::Role role = wire::Role::kWorker, const CoreLimits& limits = {}) {
    return std::make_unique<Process>(directory_.path(""), role, limits);
  }
  std::unique_ptr<Process> worker(int threads = 1) {
    auto made = process();
    made->run_tasks(functions_, threads);
    return made;
  }
  static std::string raw(const RefId& ref) {
    return {reinterpret_cast<const char*>(&ref), static_cast<std::size_t>(RefId::kBytes)};
  }
  // Nothing is left of what was submitted and put.
  static void expect_empty(Process& process) {
    EXPECT_TRUE(process.becomes("objects", 0));
    EXPECT_EQ(process.statistic("references"), 0);
    EXPECT_EQ(process.statistic("tasks"), 0);
    EXPECT_EQ(process.statistic("in_flight_bytes"), 0);
  }

  wire::testing::TemporaryDirectory directory_;
  Process::Functions functions_;
  Gate gate_;
  std::mutex mutex_;
  std::vector<ObjectId> kept_;
};

TEST_F(LoopbackTest, TasksRunAndAreAnswered) {
  auto owner = process(wire::Role::kDriver);
  auto one = worker(), two = worker();
  owner->lease(*one, 1);
  owner->lease(*two, 2);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&owner, t] {
      std::vector<ObjectId> results;
      for (int i = 0; i < 200; ++i) {
        results.push_back(owner->submit({.function = "echo", .args = std::to_string(t * 1000 + i)}));
      }
      for (int i = 0; i < 200; ++i) {
        EXPECT_EQ(owner->get_and_drop(results[static_cast<std::size_t>(i)]), std::to_string(t * 1000 + i));
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(one->ran + two->ran, 800);
  expect_empty(*owner);
}

TEST_F(LoopbackTest, ErrorsAndArgumentsPassFromTaskToTask) {
  auto owner = process(wire::Role::kDriver);
  auto one = worker();
  owner->lease(*one, 1);
  const ObjectId value = owner->put("value");
  const ObjectId first = owner->submit({.function = "echo", .args = "a", .references = {value}});
  const ObjectId second = owner->submit({.function = "echo", .args = "b", .references = {first}});
  EXPECT_EQ(owner->get_and_drop(second), "bavalue");
  const ObjectId broken = owner->submit({.function = "fail", .args = "because"});
  const ObjectId after = owner->submit({.function = "echo", .args = "c", .references = {broken, first}});
  EXPECT_EQ(owner->get_and_drop(after), "error: because");
  for (const ObjectId& id : {value, first, broken}) owner->drop(id);
  expect_empty(*owner);
}

TEST_F(LoopbackTest, ABlockedTaskGivesBackWhatIsQueuedBehindIt) {
  CoreLimits limits;  // nothing is stolen: only what is given back can run
  limits.scheduling.stuck_after = limits.scheduling.steal_worthwhile = 1h;
  auto owner = process(wire::Role::kDriver, limits);
  auto one = worker(), two = worker();
  owner->lease(*one, 1);
  for (int i = 0; i < 20; ++i) owner->get_and_drop(owner->submit({.function = "echo", .args = "fast"}));
  // Short tasks are sent ahead, behind the one that waits for an object which the last of them precedes.
  const ObjectId awaited = owner->core().pending_object();
  const RefId ref = owner->core().ref_of(awaited);
  const ObjectId blocked = owner->submit({.function = "get", .args = raw(ref), .nested = {awaited}});
  std::vector<ObjectId> behind;
  for (int i = 0; i < 50; ++i) behind.push_back(owner->submit({.function = "echo", .args = "behind"}));
  owner->lease(*two, 2);
  for (const ObjectId& id : behind) EXPECT_EQ(owner->get_and_drop(id), "behind");
  owner->core().complete_object(awaited, {.inband = bytes_of("now"), .buffers = {}, .nested = {}});
  EXPECT_EQ(owner->get_and_drop(blocked), "now");
  owner->drop(awaited);
  expect_empty(*owner);
}

TEST_F(LoopbackTest, AnIdleWorkerTakesFromAStuckOne) {
  auto owner = process(wire::Role::kDriver);
  auto one = worker(), two = worker();
  owner->lease(*one, 1);
  for (int i = 0; i < 20; ++i) owner->get_and_drop(owner->submit({.function = "echo", .args = "fast"}));
  const ObjectId stuck = owner->submit({.function = "gate", .args = "stuck"});
  ASSERT_TRUE(gate_.wait_for(1));
  std::vector<ObjectId> behind;
  for (int i = 0; i < 50; ++i) behind.push_back(owner->submit({.function = "echo", .args = "behind"}));
  owner->lease(*two, 2);
  for (const ObjectId& id : behind) EXPECT_EQ(owner->get_and_drop(id), "behind");
  EXPECT_GE(two->ran.load(), 50);
  gate_.open();
  EXPECT_EQ(owner->get_and_drop(stuck), "stuck");
}

TEST_F(LoopbackTest, QueuedTasksAreCancelledAndRunningOnesAreTold) {
  auto owner = process(wire::Role::kDriver);
  auto one = worker();
  owner->lease(*one, 1);
  for (int i = 0; i < 20; ++i) owner->get_and_drop(owner->submit({.function = "echo", .args = "fast"}));
  const ObjectId running = owner->submit({.function = "cancelled", .args = ""});
  ASSERT_TRUE(gate_.wait_for(1));
  const ObjectId queued = owner->submit({.function = "echo", .args = "queued"});
  EXPECT_NE(owner->core().cancel(queued.task(), false, bytes_of("stop")), Core::Cancelled::kUnknown);
  EXPECT_EQ(owner->get_and_drop(queued), "error: stop");
  EXPECT_EQ(owner->core().cancel(running.task(), true, bytes_of("stop")), Core::Cancelled::kSent);
  EXPECT_TRUE(
      one->hears([](const Event& event) { return event.kind == EventKind::kCancel && event.number; }));
  gate_.open();
  EXPECT_EQ(owner->get_and_drop(running), "cancelled");
  expect_empty(*owner);
}

TEST_F(LoopbackTest, BorrowersKeepObjectsAndLetThemGo) {
  auto owner = process(wire::Role::kDriver);
  auto one = worker();
  owner->lease(*one, 1);
  const ObjectId object = owner->put("object");
  const RefId ref = owner->core().ref_of(object);
  EXPECT_EQ(owner->get_and_drop(owner->submit({.function = "keep", .args = raw(ref), .nested = {object}})),
            "kept");
  owner->drop(object);
  EXPECT_EQ(one->get(object), "object");  // asked for after its owner has let go
  EXPECT_EQ(owner->statistic("objects"), 1);
  one->drop(object);
  expect_empty(*owner);
  expect_empty(*one);
}

TEST_F(LoopbackTest, ResultsMayContainReferences) {
  auto owner = process(wire::Role::kDriver);
  auto one = worker();
  owner->lease(*one, 1);
  for (int i = 0; i < 20; ++i) {
    const ObjectId outer = owner->submit({.function = "make", .args = "inner"});
    const RefId inner = read_ref(owner->get(outer));
    owner->core().adopt_reference(inner, Cover::by_object(outer));
    owner->drop(outer);
    EXPECT_EQ(owner->get_and_drop(inner.id), "inner");
  }
  expect_empty(*owner);
  expect_empty(*one);
}

TEST_F(LoopbackTest, CallsOfSeveralCallersReachAnActorInOrder) {
  const ActorId actor = ActorId::random();
  std::map<std::string, int> last;
  functions_["next"] = [&](Process&, const TaskHandle& task) {
    const int number = std::stoi(Process::args_of(task));
    auto& seen = last.try_emplace(task->owner.hex(), -1).first->second;
    const bool in_order = number == seen + 1;
    seen = number;
    return Process::result(in_order ? "in order" : "out of order");
  };
  auto home = worker();
  home->core().set_actor(actor);
  std::vector<std::unique_ptr<Process>> callers;
  for (int i = 0; i < 3; ++i) callers.push_back(process(wire::Role::kDriver));
  std::vector<std::thread> threads;
  for (auto& caller : callers) {
    threads.emplace_back([&] {
      std::vector<ObjectId> results;
      for (int i = 0; i < 300; ++i) {
        results.push_back(caller->submit(
            {.function = "next", .args = std::to_string(i), .actor = actor, .max_retries = 0}));
        if (i == 100) caller->core().actor_connect(actor, 1, home->id(), home->address());
      }
      for (const ObjectId& id : results) EXPECT_EQ(caller->get_and_drop(id), "in order");
    });
  }
  for (auto& thread : threads) thread.join();
  for (auto& caller : callers) {
    EXPECT_EQ(caller->core().actor_pending_calls(actor), 0u);
    caller->core().actor_fail(actor, bytes_of("dead"));
    EXPECT_EQ(caller->get_and_drop(caller->submit({.function = "next", .args = "0", .actor = actor})),
              "error: dead");
    expect_empty(*caller);
  }
}

TEST_F(LoopbackTest, ASnapshotHasWhatHasNotEndedAndCountsTheRest) {
  const ActorId actor = ActorId::random();  // it is never there
  auto caller = process(wire::Role::kDriver);
  const auto empty = caller->core().snapshot(true, true, 10);
  EXPECT_EQ(empty.size(), 0u);
  std::vector<ObjectId> results;
  for (int i = 0; i < 5; ++i)
    results.push_back(caller->submit({.function = "echo", .args = "x", .actor = actor}));
  const auto all = caller->core().snapshot(true, false, 10);
  const auto some = caller->core().snapshot(true, false, 2);
  EXPECT_LT(some.size(), all.size() / 2);
  // left_off = 3: the last field, a varint.
  ASSERT_GE(some.size(), 2u);
  EXPECT_EQ(some[some.size() - 2], std::byte{7 << 3});
  EXPECT_EQ(some.back(), std::byte{3});
  EXPECT_GT(caller->core().snapshot(false, true, 10).size(), 5u * sizeof(ObjectId));
  caller->core().actor_fail(actor, bytes_of("dead"), "Dead: it never was");
  EXPECT_EQ(caller->core().snapshot(true, false, 10).size(), 0u);
  for (const ObjectId& id : results) EXPECT_EQ(caller->get_and_drop(id), "error: dead");
  EXPECT_EQ(caller->core().snapshot(true, true, 10).size(), 0u);
  expect_empty(*caller);
}

TEST_F(LoopbackTest, AnEventLoopTakesCallsFromTheDescriptor) {
  const ActorId actor = ActorId::random();
  auto home = process();
  home->core().set_actor(actor);
  home->watch_tasks(functions_);
  auto caller = process(wire::Role::kDriver);
  caller->core().actor_connect(actor, 1, home->id(), home->address());
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 200; ++i) {  // one by one: each finds the loop asleep
        EXPECT_EQ(caller->get_and_drop(caller->submit({.function = "echo", .args = "x", .actor = actor})),
                  "x");
      }
    });
  }
  // Beside them somebody who waits in the actor's process, and takes the baton.
  std::thread beside([&] {
    const ObjectId never = home->core().pending_object();
    for (int i = 0; i < 50; ++i) home->get(never, 5ms);
    home->drop(never);
  });
  for (auto& thread : threads) thread.join();
  beside.join();
  expect_empty(*caller);
}

TEST_F(LoopbackTest, TasksOfADeadWorkerRunElsewhere) {
  auto owner = process(wire::Role::kDriver);
  auto survivor = worker();
  auto doomed = worker();
  owner->lease(*doomed, 1);
  for (int i = 0; i < 20; ++i) owner->get_and_drop(owner->submit({.function = "echo", .args = "fast"}));
  const ObjectId stuck = owner->submit({.function = "gate", .args = "stuck"});
  ASSERT_TRUE(gate_.wait_for(1));
  std::vector<ObjectId> results;
  for (int i = 0; i < 50; ++i) results.push_back(owner->submit({.function = "echo", .args = "again"}));
  const ObjectId borrowed = owner->put("borrowed");
  gate_.open();  // its thread must be able to end
  doomed->end();
  EXPECT_TRUE(owner->hears(EventKind::kLeaseBroken));
  owner->lease(*survivor, 2);
  for (const ObjectId& id : results) EXPECT_EQ(owner->get_and_drop(id), "again");
  EXPECT_EQ(owner->get_and_drop(stuck), "stuck");
  owner->drop(borrowed);
  expect_empty(*owner);
}

TEST_F(LoopbackTest, ObjectsOfADeadOwnerAreLostToTheirBorrowers) {
  auto owner = process(wire::Role::kDriver);
  auto one = worker();
  owner->lease(*one, 1);
  const ObjectId never = owner->core().pending_object();
  const RefId ref = owner->core().ref_of(never);
  owner->get_and_drop(owner->submit({.function = "keep", .args = raw(ref), .nested = {never}}));
  std::string got;
  std::thread waiting([&] { got = one->get(never); });
  ASSERT_TRUE(one->becomes("objects", 1));
  owner->end();
  waiting.join();
  EXPECT_EQ(got, "error: owner died");
  one->drop(never);
  expect_empty(*one);
}

TEST_F(LoopbackTest, LargeValuesGoThroughTheStore) {
  plasma::testing::ScratchDirectory scratch;
  plasma::Store store(plasma::testing::small_store(scratch));
  store.start();
  auto owner = process(wire::Role::kDriver);
  auto one = process();
  owner->core().connect_plasma(scratch.socket(), soon());
  one->core().connect_plasma(scratch.socket(), soon());
  functions_["big"] = [](Process& self, const TaskHandle& task) {
    ResultParts out;
    const std::string text(300'000, 'b');
    const Parts parts{.inband = bytes_of(text), .buffers = {}, .nested = {}};
    EXPECT_TRUE(self->make_result(task, 0, parts, self.waiting(), out));
    return out;
  };
  one->run_tasks(functions_);
  owner->lease(*one, 1);
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 10; ++i) {
        EXPECT_EQ(owner->get_and_drop(owner->submit({.function = "big", .args = ""})).size(), 300'000u);
        EXPECT_EQ(owner->get_and_drop(owner->put(std::string(200'000, 'p'))).size(), 200'000u);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  expect_empty(*owner);
}

// ---- peers that misbehave ----

TEST_F(LoopbackTest, AMalformedReplyEndsItsWorkerAndTheTaskRunsElsewhere) {
  auto owner = process(wire::Role::kDriver);
  auto one = worker();
  wire::Reactor reactor;
  auto recorder = std::make_shared<wire::testing::Recorder>();
  wire::Hello hello;
  hello.role = wire::Role::kWorker;
  hello.sender = WorkerId::random();
  hello.token = "secret";
  auto impostor = wire::Connection::connect(reactor, owner->address(), hello, {}, recorder);
  const auto pump = [&](const std::function<bool()>& done) {
    for (const auto deadline = soon(); !done() && wire::Clock::now() < deadline;) reactor.poll(soon(kSlice));
    return done();
  };
  ASSERT_TRUE(pump([&] { return recorder->opened == 1 && owner->statistic("connections") == 1; }));
  owner->core().add_lease(1, 7, hello.sender, "");
  const ObjectId result = owner->submit({.function = "echo", .args = "x"});
  ASSERT_TRUE(pump([&] { return !recorder->frames.empty(); }));
  // It answers the right task, with fewer results than were asked for.
  const auto task = decode_task(wire::testing::bytes_of(recorder->frames[0].payload));
  ASSERT_TRUE(task);
  ReplyMessage head;
  head.id = task->id;
  wire::ByteWriter out;
  encode_reply_head(out, head, 0);
  impostor->send({.type = static_cast<std::uint16_t>(CoreFrame::kTaskReply)}, out.view());
  ASSERT_TRUE(pump([&] { return impostor->state() == wire::Connection::State::kClosed; }));
  EXPECT_TRUE(owner->hears([](const Event& event) {
    return event.kind == EventKind::kLeaseBroken && event.number == 7 &&
           event.text.find("a reply that does not answer its task") != std::string::npos;
  }));
  EXPECT_EQ(owner->statistic("rejected_frames"), 1);
  owner->lease(*one, 8);
  EXPECT_EQ(owner->get_and_drop(result), "x");
  expect_empty(*owner);
  impostor->close("done");
  for (int i = 0; i < 3; ++i) reactor.poll({});
}

TEST_F(LoopbackTest, ARayletWhoseMessagesPileUpIsHungUpOn) {
  wire::Reactor reactor;
  auto recorder = std::make_shared<wire::testing::Recorder>();
  std::shared_ptr<wire::Connection> to_process;
  auto listener = wire::Listener::listen(
      reactor, directory_.socket("raylet"), [&](wire::UniqueFd fd, const wire::PeerCredentials&) {
        wire::HandshakePolicy policy;
        policy.token = "secret";
        to_process = wire::Connection::accept(reactor, std::move(fd), policy, recorder);
      });
  std::atomic<bool> stop{false};
  Gate hung_up;
  std::thread raylet([&] {
    const std::string message = "\x12" + std::string(999, 'm');  // answers nothing
    while (!stop) {
      reactor.poll(soon(kSlice));
      for (int i = 0; i < 5 && recorder->opened > 0; ++i) {
        to_process->send({.type = static_cast<std::uint16_t>(wire::FrameType::kControl)},
                         wire::testing::bytes_of(message));
      }
      if (to_process && to_process->state() == wire::Connection::State::kClosed) hung_up.open();
    }
    listener->close();
    if (to_process) to_process->close("done");
    for (int i = 0; i < 3; ++i) reactor.poll({});
  });
  CoreLimits limits;
  limits.control_queue_bytes = 20'000;
  Process process(directory_.path(""), wire::Role::kDriver, limits, directory_.socket("raylet"));
  EXPECT_TRUE(process.hears(EventKind::kControl));
  process.takes_events = false;
  hung_up.pass();
  EXPECT_EQ(process.statistic("queued_control_bytes"), 20'000);
  process.takes_events = true;
  EXPECT_TRUE(process.hears([](const Event& event) {
    return event.kind == EventKind::kRayletLost &&
           event.text.find("does not keep up with the raylet's messages") != std::string::npos;
  }));
  stop = true;
  raylet.join();
}

// ---- all at once ----

TEST_F(LoopbackTest, EverythingAtOnceWhileWorkersDie) {
  auto owner = process(wire::Role::kDriver);
  const ActorId actor = ActorId::random();
  auto home = process();
  home->core().set_actor(actor);
  home->run_tasks(functions_, 2);
  owner->core().actor_connect(actor, 1, home->id(), home->address());
  std::atomic<LeaseId> next_lease{1};
  std::atomic<bool> stop{false};
  std::thread mortality([&] {
    std::vector<std::unique_ptr<Process>> workers;
    for (int round = 0; !stop; ++round) {
      workers.push_back(worker());
      owner->lease(*workers.back(), next_lease++);
      if (workers.size() > 2) workers.erase(workers.begin());
      owner->core().reclaim_leases(static_cast<std::uint32_t>(round % 2));
      const ObjectId never = owner->core().pending_object();
      owner->get(never, 30ms);
      owner->drop(never);
    }
  });
  std::vector<std::thread> users;
  for (unsigned seed = 0; seed < 4; ++seed) {
    users.emplace_back([&, seed] {
      std::mt19937 random(seed);
      for (int i = 0; i < 150; ++i) {
        const ObjectId value = owner->put("value");
        const RefId ref = owner->core().ref_of(value);
        std::vector<ObjectId> results;
        results.push_back(
            owner->submit({.function = "echo", .args = "x", .references = {value}, .max_retries = -1}));
        results.push_back(
            owner->submit({.function = "get", .args = raw(ref), .nested = {value}, .max_retries = -1}));
        results.push_back(owner->submit({.function = "echo", .args = "call", .actor = actor}));
        results.push_back(owner->submit(
            {.function = "echo", .args = "y", .references = {results[random() % 3]}, .max_retries = -1}));
        const ObjectId victim = results[random() % results.size()];
        if (random() % 3 == 0) owner->core().cancel(victim.task(), false, bytes_of("stop"));
        std::shuffle(results.begin(), results.end(), random);
        for (const ObjectId& id : results) EXPECT_NE(owner->get_and_drop(id), "");
        owner->drop(value);
      }
    });
  }
  for (auto& user : users) user.join();
  stop = true;
  mortality.join();
  EXPECT_TRUE(owner->becomes("tasks", 0));
  EXPECT_EQ(owner->statistic("in_flight_bytes"), 0);
}

TEST_F(LoopbackTest, ClosingTakesEffectAlthoughAnotherThreadPolls) {
  auto one = worker();
  for (int round = 1; round <= 20; ++round) {  // who polls in the end is a matter of luck
    auto owner = process(wire::Role::kDriver);
    owner->lease(*one, round);
    owner->get_and_drop(owner->submit({.function = "echo", .args = "connected"}));
    const auto polls = owner->statistic("user_polls");
    wire::Waiter released;
    std::thread other([&] {
      Core::BlockScope scope(owner->core(), nullptr);
      owner->core().wait(released, wire::TimePoint::max(), scope);
    });
    while (owner->statistic("user_polls") == polls) owner->core().post_wake();
    owner->core().close();
    EXPECT_EQ(owner->statistic("connections"), 0);
    released.complete();
    other.join();
  }
}

TEST(PolicyThreadTest, IsWokenByWhatCameBeforeItWaits) {
  CoreConfig config;
  config.worker = WorkerId::random();
  Core core(config);
  core.post_wake();
  // A wake that was lost would leave it here for ever.
  EXPECT_TRUE(core.next_events(wire::TimePoint::max()).empty());
}

}  // namespace
}  // namespace aktis::core::testing
