// The proof of the reference protocol: random programs on a simulated network, several thousand schedules.
//
// AKTIS_SCHEDULES=n sets how many; AKTIS_SEED=n replays one and prints its story. A failure names its seed.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <iostream>

#include "references_errors.h"

namespace aktis::testing {
namespace {

constexpr std::uint64_t kDefaultSchedules = 3000;

// splitmix64: the same schedule for the same seed, everywhere.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() {
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
  }
  std::uint64_t below(std::uint64_t limit) { return next() % limit; }
  bool chance(std::uint64_t percent) { return below(100) < percent; }

 private:
  std::uint64_t state_;
};

// One random program: each step is an action of one process or the arrival of one message.
class Schedule {
 public:
  Schedule(std::uint64_t seed, Sabotage sabotage)
      : random_(seed),
        world_(2 + static_cast<int>(random_.below(4)), sabotage),
        unordered_(sabotage == Sabotage::kUnordered),
        steps_(40 + random_.below(200)),
        // Half of the schedules are without deaths: there the oracle excuses nothing.
        crashes_left_(random_.chance(50) ? 0 : random_.below(3)),
        delivery_percent_(20 + random_.below(60)) {
    world_.choose_executor = [this](int caller) { return random_.chance(70) ? executor_for(caller) : -1; };
    world_.choose_survivors = [this](std::size_t queued) { return random_.below(queued + 1); };
  }

  World& world() { return world_; }

  void run() {
    for (std::uint64_t i = 0; i < steps_; ++i) {
      if (random_.chance(delivery_percent_)) {
        deliver();
      } else {
        program_step();
      }
    }
    world_.check_self_reliance();
    world_.wind_up();
  }

 private:
  void deliver() {
    auto pairs = world_.pending();
    if (pairs.empty()) return;
    // Some connections are slow for a while: races need one message to lose against a chain of others.
    if (random_.chance(10)) slow_ = random_.next();
    const auto fast = std::stable_partition(pairs.begin(), pairs.end(), [this](const auto& pair) {
      return (slow_ >> (pair.first * world_.size() + pair.second)) % 2 == 0;
    });
    const auto choices =
        fast == pairs.begin() ? pairs.size() : static_cast<std::size_t>(fast - pairs.begin());
    const auto [from, to] = pairs[random_.below(choices)];
    acting_ = to;
    world_.deliver(from, to, unordered_ ? random_.below(8) : 0);
  }

  void program_step() {
    acting_ = static_cast<int>(random_.below(world_.size()));
    if (!world_.oracle.alive(acting_)) return;
    const Context context = any_context();
    switch (random_.below(18)) {
      case 0:
      case 1:
        world_.put(acting_, context, some(context, 2));
        return;
      case 2:
      case 3:
      case 4:
        submit(context);
        return;
      case 5:
      case 6:
        if (const auto id = any(context)) world_.get(acting_, context, *id);
        return;
      case 7:
      case 8:
        if (const auto id = any(context)) world_.copy(acting_, any_context(), *id);
        return;
      case 9:
      case 10:
        drop(context);
        return;
      case 11:
      case 12:
      case 13:
        finish(context);
        return;
      case 14:
        rare_step(context);
        return;
      case 15:
      case 16:
        recompute();
        return;
      default:
        deliver();
    }
  }

  void rare_step(Context context) {
    switch (random_.below(8)) {
      case 0:
      case 1:
        if (crashes_left_ == 0) return;
        --crashes_left_;
        world_.crash(acting_);
        return;
      case 2:
        if (const auto id = any(context); id && random_.chance(30)) world_.pin(acting_, *id);
        return;
      case 3:
        load();
        return;
      case 4:
        fail_dependent(context);
        return;
      default:
        lose_everything();
    }
  }

  // --- Choices -------------------------------------------------------------------------------------------

  Context any_context() {
    std::vector<Context> contexts = {kState};
    for (const auto& [attempt, run] : world_.process(acting_).runs) {
      if (!run.reply) contexts.push_back(attempt);
    }
    return contexts[random_.below(contexts.size())];
  }

  const std::vector<ObjectId>& handles(Context context) {
    const Process& process = world_.process(acting_);
    return context == kState ? process.state : process.runs.at(context).handles;
  }

  std::optional<ObjectId> any(Context context) {
    const auto& ids = handles(context);
    if (ids.empty()) return std::nullopt;
    return ids[random_.below(ids.size())];
  }

  std::vector<ObjectId> some(Context context, std::uint64_t most) {
    std::vector<ObjectId> ids;
    for (std::uint64_t i = random_.below(most + 1); i > 0; --i) {
      if (const auto id = any(context)) ids.push_back(*id);
    }
    return ids;
  }

  // Another process that p believes to be alive; -1 when there is none.
  int executor_for(int p) {
    std::vector<int> candidates;
    for (int other = 0; other < world_.size(); ++other) {
      if (other != p && !world_.process(p).known_dead.contains(other)) candidates.push_back(other);
    }
    return candidates.empty() ? -1 : candidates[random_.below(candidates.size())];
  }

  // --- Steps ---------------------------------------------------------------------------------------------

  void submit(Context context) {
    const int first = executor_for(acting_);
    if (first < 0) return;
    std::vector<int> executors = {first};
    const int second = executor_for(acting_);
    if (second != first && random_.chance(20)) executors.push_back(second);
    world_.submit(acting_, context, executors, some(context, 3), 1 + random_.below(2));
  }

  void drop(Context context) {
    std::vector<ObjectId> ids = handles(context);
    std::vector<ObjectId> dropped;
    const bool all = random_.chance(30);
    for (std::uint64_t i = all ? ids.size() : 1; i > 0 && !ids.empty(); --i) {
      const auto chosen = ids.begin() + static_cast<std::ptrdiff_t>(random_.below(ids.size()));
      dropped.push_back(*chosen);
      ids.erase(chosen);
    }
    if (!dropped.empty()) world_.drop(acting_, context, dropped);
  }

  void finish(Context context) {
    if (context == kState) return;
    const bool given_back = random_.chance(10);
    std::vector<std::vector<ObjectId>> contents;
    const std::size_t results = world_.process(acting_).runs.at(context).results.size();
    while (!given_back && contents.size() < results)
      contents.push_back(some(random_.chance(70) ? context : kState, 2));
    // It raised: the one exception is every result.
    if (random_.chance(10)) std::fill(contents.begin(), contents.end(), some(context, 2));
    world_.finish(acting_, context, contents, given_back);
  }

  void fail_dependent(Context context) {
    const auto outer = any(context);
    const auto source = any(context);
    if (outer && source && world_.table(acting_).is_owned(*outer))
      take_over(world_, acting_, *outer, *source);
  }

  void load() {
    const auto& objects = world_.oracle.objects();
    if (objects.empty() || !random_.chance(20)) return;
    auto chosen = objects.begin();
    std::advance(chosen, static_cast<std::ptrdiff_t>(random_.below(objects.size())));
    if (chosen->second.owner != acting_) world_.load(acting_, chosen->first);
  }

  // Drops most handles of a process and then loses the results that are left, one after the other.
  void lose_everything() {
    const std::vector<ObjectId> held = handles(kState);
    for (const ObjectId& id : held) {
      if (random_.chance(70)) world_.drop(acting_, kState, {id});
    }
    for (int i = 0; i < 4; ++i) recompute();
  }

  void recompute() {
    std::vector<TaskId> done;
    for (const auto& [id, task] : world_.process(acting_).tasks) {
      if (task.done) done.push_back(id);
    }
    if (done.empty()) return;
    const TaskId task = done[random_.below(done.size())];
    const int executor = executor_for(acting_);
    if (executor < 0) return;
    world_.recompute(acting_, task, executor);
  }

  Random random_;
  World world_;
  const bool unordered_;
  const std::uint64_t steps_;
  std::uint64_t crashes_left_;
  const std::uint64_t delivery_percent_;
  int acting_ = 0;
  std::uint64_t slow_ = 0;  // a bit for each pair
};

// What went wrong; empty when nothing did.
std::string run_schedule(std::uint64_t seed, Sabotage sabotage, bool tracing = false) {
  Schedule schedule(seed, sabotage);
  schedule.world().tracing = tracing;
  std::string failure;
  try {
    schedule.run();
  } catch (const std::logic_error& error) {
    failure = error.what();
  } catch (const Violation& violation) {
    failure = violation.what();
  }
  if (tracing) std::cout << schedule.world().story();
  return failure;
}

std::uint64_t from_environment(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

TEST(ReferencesSimulationTest, NothingIsFreedTooEarlyAndEverythingInTheEnd) {
  if (std::getenv("AKTIS_SEED") != nullptr) {
    EXPECT_EQ(run_schedule(from_environment("AKTIS_SEED", 0), Sabotage::kNone, true), "");
    return;
  }
  const std::uint64_t schedules = from_environment("AKTIS_SCHEDULES", kDefaultSchedules);
  for (std::uint64_t seed = 1; seed <= schedules; ++seed) {
    ASSERT_EQ(run_schedule(seed, Sabotage::kNone), "") << "replay with AKTIS_SEED=" << seed;
  }
}

class SabotageTest : public ::testing::TestWithParam<Sabotage> {};

// The simulation has teeth: every rule that a user of the table could break is noticed.
TEST_P(SabotageTest, IsNoticed) {
  const std::uint64_t schedules = from_environment("AKTIS_SCHEDULES", kDefaultSchedules);
  for (std::uint64_t seed = 1; seed <= schedules; ++seed) {
    const std::string failure = run_schedule(seed, GetParam());
    if (failure.empty()) continue;
    RecordProperty("seed", std::to_string(seed));
    RecordProperty("failure", failure);
    return;
  }
  FAIL() << "not noticed in " << schedules << " schedules";
}

INSTANTIATE_TEST_SUITE_P(Ways, SabotageTest,
                         ::testing::Values(Sabotage::kReplyBeforeAck, Sabotage::kNoReturnHold,
                                           Sabotage::kReleaseReturnEarly, Sabotage::kUsesBeforeAdopt,
                                           Sabotage::kOneUsePerTask, Sabotage::kNoContents,
                                           Sabotage::kUnordered, Sabotage::kRecordAfterUses,
                                           Sabotage::kShallowLineage));

}  // namespace
}  // namespace aktis::testing
