// The counting cases that any protocol must get right, each as a script on the simulated cluster: the oracle
// and the invariants are checked after every step, and wind_up() proves that nothing stays behind.
#include <gtest/gtest.h>

#include "references_errors.h"

namespace aktis::testing {
namespace {

using references::State;

// The usual cast.
constexpr int kDriver = 0;
constexpr int kWorker = 1;
constexpr int kActor = 2;
constexpr int kOther = 3;

class ReferencesCasesTest : public ::testing::Test {
 protected:
  // Runs a task at `executor` up to its first statement; returns its result.
  ObjectId start(int caller, int executor, const std::vector<ObjectId>& args, Context context = kState) {
    const ObjectId result = world.submit(caller, context, {executor}, args)[0];
    world.deliver_all();
    return result;
  }

  void finish(int executor, const ObjectId& result, const std::vector<ObjectId>& contents = {}) {
    world.finish(executor, world.running(executor, result), {contents});
    world.deliver_all();
  }

  // A method of an actor that keeps its argument.
  void keep(int caller, int actor, const ObjectId& id) {
    const ObjectId result = start(caller, actor, {id});
    world.copy(actor, kState, id);
    finish(actor, result);
    world.drop(caller, kState, {result});
  }

  bool freed(const ObjectId& id) { return world.oracle.object(id).freed; }
  State state(int p, const ObjectId& id) { return world.table(p).counts(id).state; }

  World world{4};
};

TEST_F(ReferencesCasesTest, ReturnedByATaskThatOnlyBorrowedIt) {
  const ObjectId value = world.put(kDriver, kState);
  const ObjectId task = start(kDriver, kWorker, {value});
  const ObjectId inner = start(kWorker, kActor, {value}, world.running(kWorker, task));
  finish(kActor, inner, {value});
  finish(kWorker, task, {value, inner});
  world.drop(kDriver, kState, {value});
  EXPECT_FALSE(freed(value));
  EXPECT_TRUE(world.get(kDriver, kState, task));
  world.drop(kDriver, kState, {task, value, inner});
  world.deliver_all();
  EXPECT_TRUE(freed(value));
  world.wind_up();
}

TEST_F(ReferencesCasesTest, InsideAReturnedObject) {
  const ObjectId task = start(kDriver, kWorker, {});
  const Context frame = world.running(kWorker, task);
  const ObjectId value = world.put(kWorker, frame);
  finish(kWorker, task, {value});
  EXPECT_FALSE(freed(value));
  EXPECT_EQ(world.table(kWorker).counts(value).borrowers, 1u);
  EXPECT_EQ(world.table(kWorker).counts(value).return_holds, 0u);
  world.drop(kDriver, kState, {task});
  world.deliver_all();
  EXPECT_TRUE(freed(value));
  world.wind_up();
}

TEST_F(ReferencesCasesTest, InsideAPutObject) {
  const ObjectId value = world.put(kDriver, kState);
  const ObjectId outer = world.put(kDriver, kState, {value});
  world.drop(kDriver, kState, {value});
  keep(kDriver, kActor, outer);
  world.drop(kDriver, kState, {outer});
  EXPECT_TRUE(world.get(kActor, kState, outer));
  world.drop(kActor, kState, {outer});
  world.deliver_all();
  EXPECT_TRUE(freed(outer));
  EXPECT_FALSE(freed(value));
  world.wind_up();
}

TEST_F(ReferencesCasesTest, InsideAnObjectPutByABorrower) {
  const ObjectId value = world.put(kDriver, kState);
  const ObjectId task = start(kDriver, kWorker, {value});
  const ObjectId outer = world.put(kWorker, world.running(kWorker, task), {value});
  finish(kWorker, task, {outer});
  world.drop(kDriver, kState, {value});
  world.deliver_all();
  EXPECT_FALSE(freed(value));
  EXPECT_TRUE(world.get(kDriver, kState, task));
  EXPECT_TRUE(world.get(kDriver, kState, outer));
  world.wind_up();
}

TEST_F(ReferencesCasesTest, CapturedInAnActorsState) {
  const ObjectId value = world.put(kDriver, kState);
  keep(kDriver, kActor, value);
  world.drop(kDriver, kState, {value});
  world.deliver_all();
  EXPECT_FALSE(freed(value));
  EXPECT_EQ(state(kActor, value), State::kRegistered);
  world.drop(kActor, kState, {value});
  world.deliver_all();
  EXPECT_TRUE(freed(value));
  world.wind_up();
}

// A worker's global outlives the task like an actor's state, and the next task finds it there.
TEST_F(ReferencesCasesTest, CapturedInAGlobal) {
  const ObjectId value = world.put(kDriver, kState);
  keep(kDriver, kWorker, value);
  world.drop(kDriver, kState, {value});
  const ObjectId next = start(kDriver, kWorker, {});
  finish(kWorker, next, {value});
  EXPECT_TRUE(world.get(kDriver, kState, next));
  world.wind_up();
}

// A closure is exported outside the counted paths: its references are pinned, and loaded without a cover.
TEST_F(ReferencesCasesTest, CapturedInAClosure) {
  const ObjectId value = world.put(kDriver, kState);
  world.pin(kDriver, value);
  world.drop(kDriver, kState, {value});
  world.load(kWorker, value);
  world.deliver_all();
  EXPECT_EQ(state(kWorker, value), State::kRegistered);
  world.wind_up();
}

// The one exception becomes the value of every result; what it refers to lives as long as the last of them.
TEST_F(ReferencesCasesTest, CapturedInAnException) {
  const ObjectId value = world.put(kDriver, kState);
  const auto results = world.submit(kDriver, kState, {kWorker}, {value}, 2);
  world.deliver_all();
  const Context frame = world.running(kWorker, results[0]);
  const ObjectId local = world.put(kWorker, frame);
  world.finish(kWorker, frame, {{value, local}, {value, local}});
  world.deliver_all();
  world.drop(kDriver, kState, {value, results[0]});
  world.deliver_all();
  EXPECT_TRUE(world.get(kDriver, kState, results[1]));
  world.drop(kDriver, kState, {value, local});
  EXPECT_FALSE(freed(value));
  EXPECT_FALSE(freed(local));
  world.drop(kDriver, kState, {results[1]});
  world.deliver_all();
  EXPECT_TRUE(freed(value));
  EXPECT_TRUE(freed(local));
  EXPECT_TRUE(world.table(kWorker).idle());
  world.wind_up();
}

// The attempt raised, and is repeated: what its exception referred to is let go.
TEST_F(ReferencesCasesTest, CapturedInAnExceptionOfAnAttemptThatIsRepeated) {
  world.choose_executor = [](int) { return kOther; };
  const ObjectId value = world.put(kDriver, kState);
  const ObjectId task = start(kDriver, kWorker, {value});
  const Context frame = world.running(kWorker, task);
  const ObjectId local = world.put(kWorker, frame);
  const std::uint64_t hold = world.table(kWorker).hold_return(world.process(kDriver).id, {{value, local}});
  world.finish(kWorker, frame, {}, /*given_back=*/true);
  world.deliver_all();
  EXPECT_FALSE(freed(local)) << "it is not decided yet";
  world.table(kWorker).on_return_release(world.process(kDriver).id, hold);
  world.drop(kWorker, kState, {});
  EXPECT_TRUE(freed(local));
  finish(kOther, task);
  world.wind_up();
}

// A task that depends on one that failed fails with the same exception, which outlives the first result.
TEST_F(ReferencesCasesTest, CapturedInAnExceptionThatDependentTasksTakeOver) {
  const ObjectId failed = start(kDriver, kWorker, {});
  const ObjectId local = world.put(kWorker, world.running(kWorker, failed));
  finish(kWorker, failed, {local});
  const ObjectId dependent = world.put(kDriver, kState);
  take_over(world, kDriver, dependent, failed);
  world.drop(kDriver, kState, {failed});
  world.deliver_all();
  EXPECT_TRUE(freed(failed));
  EXPECT_FALSE(freed(local));
  EXPECT_TRUE(world.get(kDriver, kState, dependent));
  world.drop(kDriver, kState, {dependent, local});
  world.deliver_all();
  EXPECT_TRUE(freed(local));
  world.wind_up();
}

TEST_F(ReferencesCasesTest, CapturedInAnExceptionThatTasksOfABorrowerTakeOver) {
  const ObjectId failed = start(kDriver, kWorker, {});
  const ObjectId local = world.put(kWorker, world.running(kWorker, failed));
  finish(kWorker, failed, {local});
  keep(kDriver, kActor, failed);
  world.drop(kDriver, kState, {failed});
  const ObjectId dependent = world.put(kActor, kState);
  take_over(world, kActor, dependent, failed);
  world.drop(kActor, kState, {failed});
  world.deliver_all();
  EXPECT_FALSE(freed(failed)) << "only its owner knows what is in it";
  EXPECT_FALSE(freed(local));
  world.drop(kActor, kState, {dependent});
  world.deliver_all();
  EXPECT_TRUE(freed(failed));
  EXPECT_TRUE(freed(local));
  world.wind_up();
}

TEST_F(ReferencesCasesTest, PassedOnByABorrowerAfterItsTaskEnded) {
  const ObjectId value = world.put(kDriver, kState);
  keep(kDriver, kActor, value);
  world.drop(kDriver, kState, {value});
  const ObjectId task = start(kActor, kOther, {value});
  world.drop(kActor, kState, {value});
  world.deliver_all();
  EXPECT_FALSE(freed(value)) << "the task still uses it";
  world.copy(kOther, kState, value);
  finish(kOther, task);
  EXPECT_FALSE(freed(value));
  world.drop(kOther, kState, {value});
  world.deliver_all();
  EXPECT_TRUE(freed(value));
  world.wind_up();
}

// The reply must not overtake the registration, whichever way the messages to the owner crawl.
TEST_F(ReferencesCasesTest, PassedOnAndForgottenBeforeTheOwnerHears) {
  const ObjectId value = world.put(kDriver, kState);
  keep(kDriver, kActor, value);
  world.drop(kDriver, kState, {value});
  const ObjectId task = start(kActor, kOther, {value});
  world.copy(kOther, kState, value);
  world.drop(kActor, kState, {value});
  world.finish(kOther, world.running(kOther, task));
  EXPECT_EQ(world.queued(kOther, kActor), 0u) << "the reply waits";
  EXPECT_EQ(world.queued(kOther, kDriver), 1u) << "for this";
  world.deliver(kOther, kDriver);
  world.deliver(kDriver, kOther);
  EXPECT_EQ(world.queued(kOther, kActor), 1u);
  world.wind_up();
}

TEST_F(ReferencesCasesTest, SentTwiceByDifferentPaths) {
  const ObjectId value = world.put(kDriver, kState);
  keep(kDriver, kWorker, value);
  const ObjectId first = start(kDriver, kActor, {value});
  const ObjectId second = start(kWorker, kActor, {value});
  world.copy(kActor, kState, value);
  finish(kActor, second);
  world.drop(kDriver, kState, {value});
  world.drop(kWorker, kState, {value});
  finish(kActor, first);
  EXPECT_FALSE(freed(value));
  EXPECT_EQ(world.table(kDriver).counts(value).borrowers, 1u);
  world.wind_up();
}

TEST_F(ReferencesCasesTest, DroppedWhileTheRegistrationIsUnderWay) {
  const ObjectId value = world.put(kDriver, kState);
  const ObjectId task = start(kDriver, kActor, {value});
  world.copy(kActor, kState, value);
  world.finish(kActor, world.running(kActor, task));
  world.drop(kActor, kState, {value});
  world.drop(kDriver, kState, {value});
  world.deliver_all();
  EXPECT_TRUE(freed(value));
  world.wind_up();
}

TEST_F(ReferencesCasesTest, DroppedAndBorrowedAgainWhileTheRegistrationIsUnderWay) {
  const ObjectId value = world.put(kDriver, kState);
  const ObjectId first = start(kDriver, kActor, {value});
  world.copy(kActor, kState, value);
  world.finish(kActor, world.running(kActor, first));  // ADD
  world.drop(kActor, kState, {value});                 // REMOVE
  const ObjectId second = world.submit(kDriver, kState, {kActor}, {value})[0];
  world.deliver(kDriver, kActor);
  world.copy(kActor, kState, value);
  world.finish(kActor, world.running(kActor, second));  // a new ADD
  world.drop(kDriver, kState, {value});
  world.deliver_all();
  EXPECT_FALSE(freed(value));
  EXPECT_EQ(state(kActor, value), State::kRegistered);
  world.wind_up();
}

TEST_F(ReferencesCasesTest, ItemsOfAGeneratorNeverConsumed) {
  const ObjectId task = start(kDriver, kWorker, {});
  const Context frame = world.running(kWorker, task);
  const ObjectId item = world.put(kWorker, frame);
  world.drop(kDriver, kState, {task});
  finish(kWorker, task, {item});
  EXPECT_TRUE(freed(item));
  EXPECT_TRUE(world.table(kWorker).idle());
  world.wind_up();
}

// --- Attempts ----------------------------------------------------------------------------------------------

TEST_F(ReferencesCasesTest, ArgumentOfARetriedTask) {
  world.choose_executor = [](int) { return kOther; };
  const ObjectId value = world.put(kDriver, kState);
  const ObjectId task = start(kDriver, kWorker, {value});
  world.drop(kDriver, kState, {value});
  world.crash(kWorker);
  world.deliver_all();
  EXPECT_FALSE(freed(value));
  finish(kOther, task, {value});
  EXPECT_TRUE(world.get(kDriver, kState, task));
  world.wind_up();
}

TEST_F(ReferencesCasesTest, ArgumentOfACancelledTask) {
  const ObjectId value = world.put(kDriver, kState);
  const ObjectId task = start(kDriver, kWorker, {value});
  world.drop(kDriver, kState, {value, task});
  world.finish(kWorker, world.running(kWorker, task), {}, /*given_back=*/true);
  EXPECT_FALSE(freed(value));
  world.deliver_all();
  EXPECT_TRUE(freed(value));
  world.wind_up();
}

TEST_F(ReferencesCasesTest, ArgumentOfAStolenTask) {
  world.choose_executor = [](int) { return kOther; };
  const ObjectId value = world.put(kDriver, kState);
  const ObjectId task = start(kDriver, kWorker, {value});
  world.drop(kDriver, kState, {value});
  world.finish(kWorker, world.running(kWorker, task), {}, /*given_back=*/true);
  world.deliver_all();
  EXPECT_FALSE(freed(value));
  finish(kOther, task);
  EXPECT_TRUE(freed(value));
  world.wind_up();
}

TEST_F(ReferencesCasesTest, ArgumentOfASpeculatedTask) {
  const ObjectId value = world.put(kDriver, kState);
  const ObjectId task = world.submit(kDriver, kState, {kWorker, kOther}, {value})[0];
  world.deliver_all();
  world.drop(kDriver, kState, {value});
  finish(kOther, task);
  EXPECT_FALSE(freed(value)) << "the loser still runs";
  const ObjectId loot = world.put(kWorker, world.running(kWorker, task));
  finish(kWorker, task, {value, loot});
  EXPECT_TRUE(freed(value));
  EXPECT_TRUE(freed(loot)) << "the loser's result is refused";
  world.wind_up();
}

TEST_F(ReferencesCasesTest, ReadFromAValueThatIsRecomputedDifferently) {
  const ObjectId task = start(kDriver, kWorker, {});
  const ObjectId first = world.put(kDriver, kState);
  keep(kDriver, kWorker, first);
  finish(kWorker, task, {first});
  world.drop(kDriver, kState, {first});
  world.drop(kWorker, kState, {first});
  keep(kDriver, kActor, task);
  EXPECT_TRUE(world.get(kActor, kState, task));
  EXPECT_EQ(state(kActor, first), State::kCovered);
  EXPECT_TRUE(world.recompute(kDriver, task.task(), kOther));
  world.deliver_all();
  finish(kOther, task);
  EXPECT_FALSE(freed(first));
  world.wind_up();
}

// --- Outside -----------------------------------------------------------------------------------------------

TEST_F(ReferencesCasesTest, PickledOutsideAndLoadedBack) {
  const ObjectId value = world.put(kDriver, kState);
  const ObjectId task = start(kDriver, kWorker, {value});
  world.pin(kWorker, value);  // a borrower's pin holds, too
  finish(kWorker, task);
  world.drop(kDriver, kState, {value});
  world.load(kOther, value);
  world.deliver_all();
  EXPECT_EQ(state(kOther, value), State::kRegistered);
  world.wind_up();
}

TEST_F(ReferencesCasesTest, PickledOutsideAndNeverLoaded) {
  const ObjectId value = world.put(kDriver, kState);
  keep(kDriver, kActor, value);
  world.pin(kActor, value);
  world.drop(kActor, kState, {value});
  world.drop(kDriver, kState, {value});
  world.deliver_all();
  EXPECT_FALSE(freed(value));
  world.crash(kActor);
  world.deliver_all();
  EXPECT_TRUE(freed(value));
  world.wind_up();
}

TEST_F(ReferencesCasesTest, LoadedAfterItWasFreed) {
  const ObjectId value = world.put(kDriver, kState);
  world.drop(kDriver, kState, {value});
  world.load(kOther, value);
  world.deliver_all();
  EXPECT_EQ(state(kOther, value), State::kLost);
  world.wind_up();
}

// --- Deaths at each step -----------------------------------------------------------------------------------

// A bit of everything: kWorker makes an object, kActor keeps what it read from it, kOther gets it passed on.
// `victim` dies before the step of that number; false when there was no such step.
bool run_with_death(int victim, int step) {
  World world(4);
  int steps = 0;
  const auto alive = [&](int p) { return world.oracle.alive(p); };
  const auto die = [&] {
    if (steps++ == step) world.crash(victim);
  };
  const auto deliver_all = [&] {
    for (auto pairs = world.pending(); !pairs.empty(); pairs = world.pending()) {
      die();
      world.deliver(pairs[0].first, pairs[0].second);
    }
  };
  // Runs `body` in the task of `result` at p if that still runs, then ends it.
  const auto in_task = [&](int p, const ObjectId& result, auto&& body) {
    deliver_all();
    if (!alive(p)) return;
    for (const auto& [attempt, run] : world.process(p).runs) {
      if (run.task != result.task() || run.reply) continue;
      const std::uint64_t frame = attempt;
      body(frame);
      die();
      if (alive(p)) world.finish(p, frame, {world.process(p).runs.at(frame).handles});
      break;
    }
    deliver_all();
  };
  const ObjectId made = world.submit(kDriver, kState, {kWorker}, {})[0];
  in_task(kWorker, made, [&](Context frame) {
    const ObjectId value = world.put(kWorker, frame);
    world.put(kWorker, frame, {value});
  });
  if (!alive(kDriver)) return world.wind_up(), steps > step;
  if (world.process(kDriver).known_dead.contains(kActor)) return world.wind_up(), steps > step;
  const ObjectId kept = world.submit(kDriver, kState, {kActor}, {made})[0];
  in_task(kActor, kept, [&](Context frame) {
    world.get(kActor, frame, made);
    for (const ObjectId& id : std::vector(world.process(kActor).runs.at(frame).handles))
      world.copy(kActor, kState, id);
  });
  if (alive(kDriver)) world.drop(kDriver, kState, std::vector(world.process(kDriver).state));
  deliver_all();
  if (alive(kActor) && !world.process(kActor).known_dead.contains(kOther)) {
    const ObjectId passed =
        world.submit(kActor, kState, {kOther}, std::vector(world.process(kActor).state))[0];
    world.drop(kActor, kState, std::vector(world.process(kActor).state));
    in_task(kOther, passed, [&](Context frame) {
      for (const ObjectId& id : std::vector(world.process(kOther).runs.at(frame).handles)) {
        world.copy(kOther, kState, id);
      }
    });
  }
  deliver_all();
  world.wind_up();
  return steps > step;
}

TEST_F(ReferencesCasesTest, OwnerCallerOrBorrowerDiesAtEachStep) {
  for (int victim = 0; victim < 4; ++victim) {
    int step = 0;
    while (run_with_death(victim, step)) ++step;
    EXPECT_GT(step, 20) << "the script has many steps";
  }
}

}  // namespace
}  // namespace aktis::testing
