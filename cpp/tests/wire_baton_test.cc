#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <stdexcept>
#include <thread>

#include "tests/wire_test_support.h"
#include "wire/baton.h"

namespace aktis::wire {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

constexpr microseconds kLinger{2000};
TimePoint in(milliseconds duration) { return Clock::now() + duration; }
TimePoint far() { return in(std::chrono::seconds(10)); }

// A peer in the form of an eventfd: ring() makes the poller run the callback.
class Bell : public EventHandler {
 public:
  static std::shared_ptr<Bell> hang(Reactor& reactor, std::function<void()> callback) {
    auto bell = std::make_shared<Bell>();
    bell->callback_ = std::move(callback);
    reactor.add(bell->fd_.get(), EPOLLIN, bell);
    return bell;
  }
  void ring() {
    const std::uint64_t one = 1;
    ASSERT_EQ(::write(fd_.get(), &one, sizeof(one)), static_cast<ssize_t>(sizeof(one)));
  }
  void on_ready(std::uint32_t) override {
    std::uint64_t count;
    ASSERT_EQ(::read(fd_.get(), &count, sizeof(count)), static_cast<ssize_t>(sizeof(count)));
    callback_();
  }

 private:
  UniqueFd fd_{eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  std::function<void()> callback_;
};

// Runs serve() until the end of the test.
class ServiceThread {
 public:
  explicit ServiceThread(Baton& baton) : thread_([this, &baton] { baton.serve(stop_, far()); }) {}
  ~ServiceThread() {
    stop_.complete();
    thread_.join();
  }

 private:
  Waiter stop_;
  std::thread thread_;
};

// Waits for another thread's progress, as counted by the baton.
template <typename Condition>
bool eventually(Condition condition) {
  const TimePoint deadline = far();
  while (!condition()) {
    if (Clock::now() > deadline) return false;
    std::this_thread::yield();
  }
  return true;
}

TEST(BatonTest, TheOnlyWaiterPollsUntilItIsCompleted) {
  Reactor reactor;
  Baton baton(reactor, kLinger);
  Waiter waiter;
  auto bell = Bell::hang(reactor, [&] { waiter.complete(); });
  bell->ring();
  EXPECT_TRUE(baton.wait(waiter, TimePoint::max()));
  EXPECT_EQ(baton.statistics().user_polls, 1u);
  EXPECT_TRUE(baton.wait(waiter, TimePoint::max())) << "completed already";
  EXPECT_EQ(baton.statistics().user_polls, 1u);
}

TEST(BatonTest, AWaiterCanBeUsedAgainAfterReset) {
  Reactor reactor;
  Baton baton(reactor, kLinger);
  Waiter waiter;
  auto bell = Bell::hang(reactor, [&] { waiter.complete(); });
  for (int i = 0; i < 3; ++i) {
    waiter.reset();
    bell->ring();
    EXPECT_TRUE(baton.wait(waiter, far()));
  }
  EXPECT_EQ(baton.statistics().user_polls, 3u);
}

TEST(BatonTest, TheLeaderRespectsItsDeadline) {
  Reactor reactor;
  Baton baton(reactor, kLinger);
  Waiter waiter;
  const TimePoint deadline = in(milliseconds(10));
  EXPECT_FALSE(baton.wait(waiter, deadline));
  EXPECT_GE(Clock::now(), deadline);
  EXPECT_FALSE(waiter.completed());
}

TEST(BatonTest, TheLeaderRespectsItsDeadlineWhileOthersKeepItBusy) {
  Reactor reactor;
  Baton baton(reactor, kLinger);
  std::shared_ptr<Bell> bell;
  bell = Bell::hang(reactor, [&] { bell->ring(); });  // always something to do, never for us
  bell->ring();
  Waiter waiter;
  const TimePoint deadline = in(milliseconds(10));
  EXPECT_FALSE(baton.wait(waiter, deadline));
  EXPECT_LT(Clock::now(), deadline + std::chrono::seconds(2));
  reactor.poll(TimePoint{});
}

TEST(BatonTest, AFollowerRespectsItsDeadline) {
  Reactor reactor;
  Baton baton(reactor, kLinger);
  Waiter leader;
  std::thread leading([&] { baton.wait(leader, far()); });
  ASSERT_TRUE(eventually([&] { return baton.statistics().user_polls > 0; }));
  Waiter follower;
  const TimePoint deadline = in(milliseconds(10));
  EXPECT_FALSE(baton.wait(follower, deadline));
  EXPECT_GE(Clock::now(), deadline);
  leader.complete();
  leading.join();
  EXPECT_EQ(baton.statistics().handovers, 0u);
}

TEST(BatonTest, TheLeaderIsInterruptedWhenAnotherThreadCompletesIt) {
  Reactor reactor;
  Baton baton(reactor, kLinger);
  for (int i = 0; i < 200; ++i) {
    Waiter waiter;
    std::thread other([&] { waiter.complete(); });
    EXPECT_TRUE(baton.wait(waiter, TimePoint::max()));  // hangs when the wake-up is lost
    other.join();
  }
}

TEST(BatonTest, PostedWorkThatCompletesTheLeaderEndsItsWait) {
  Reactor reactor;
  Baton baton(reactor, kLinger);
  Waiter waiter;
  reactor.post([&] { waiter.complete(); });
  EXPECT_TRUE(baton.wait(waiter, TimePoint::max()));
}

TEST(BatonTest, AFlushHookThatCompletesTheLeaderEndsItsWait) {
  Reactor reactor;
  Baton baton(reactor, kLinger);
  Waiter waiter;
  reactor.add_flush_hook([&] { waiter.complete(); });
  EXPECT_TRUE(baton.wait(waiter, TimePoint::max()));
}

TEST(BatonTest, TheLeaderCompletesFollowersWithoutPassingTheBaton) {
  Reactor reactor;
  Baton baton(reactor, kLinger);
  Waiter leader, follower;
  auto bell = Bell::hang(reactor, [&] { follower.complete(); });
  std::thread leading([&] { EXPECT_TRUE(baton.wait(leader, far())); });
  ASSERT_TRUE(eventually([&] { return baton.statistics().user_polls > 0; }));
  std::thread ringing([&] { bell->ring(); });
  EXPECT_TRUE(baton.wait(follower, TimePoint::max()));
  ringing.join();
  EXPECT_EQ(baton.statistics().handovers, 0u);
  leader.complete();
  leading.join();
}

TEST(BatonTest, ALeavingLeaderPromotesTheOldestFollower) {
  Reactor reactor;
  Baton baton(reactor, kLinger);
  Waiter first, second;
  auto bell = Bell::hang(reactor, [&] { second.complete(); });
  std::thread leading([&] { EXPECT_TRUE(baton.wait(first, far())); });
  ASSERT_TRUE(eventually([&] { return baton.statistics().user_polls > 0; }));
  std::thread following([&] { EXPECT_TRUE(baton.wait(second, far())); });
  // Completing the leader before the follower arrived would make it the leader outright: both are fine,
  // and in both the bell must be heard.
  first.complete();
  leading.join();
  bell->ring();
  following.join();
  EXPECT_LE(baton.statistics().handovers, 1u);
}

TEST(BatonTest, AnExceptionOfAHandlerReleasesTheBaton) {
  Reactor reactor;
  Baton baton(reactor, kLinger);
  Waiter waiter;
  reactor.post([] { throw std::runtime_error("handler"); });
  EXPECT_THROW(baton.wait(waiter, far()), std::runtime_error);
  reactor.post([&] { waiter.complete(); });
  EXPECT_TRUE(baton.wait(waiter, far()));
  reactor.post([] { throw std::runtime_error("handler"); });
  EXPECT_THROW(baton.poll_now(), std::runtime_error);
  EXPECT_TRUE(baton.poll_now());
}

TEST(BatonTest, TheServiceThreadPollsWhileNobodyWaits) {
  Reactor reactor;
  Baton baton(reactor, kLinger);
  std::atomic<bool> heard{false};
  auto bell = Bell::hang(reactor, [&] { heard = true; });
  ServiceThread service(baton);
  bell->ring();
  EXPECT_TRUE(eventually([&] { return heard.load(); }));
  EXPECT_GT(baton.statistics().service_polls, 0u);
  EXPECT_EQ(baton.statistics().user_polls, 0u);
}

TEST(BatonTest, AUserThreadTakesTheBatonFromTheServiceThread) {
  Reactor reactor;
  Baton baton(reactor, kLinger);
  Waiter waiter;
  auto bell = Bell::hang(reactor, [&] { waiter.complete(); });
  ServiceThread service(baton);
  ASSERT_TRUE(eventually([&] { return baton.statistics().service_polls > 0; }));
  std::thread user([&] { EXPECT_TRUE(baton.wait(waiter, far())); });
  ASSERT_TRUE(eventually([&] { return baton.statistics().user_polls > 0; }));
  EXPECT_EQ(baton.statistics().handovers, 1u);
  bell->ring();
  user.join();
}

TEST(BatonTest, TheServiceThreadTakesOverAfterTheLinger) {
  Reactor reactor;
  Baton baton(reactor, kLinger);
  Waiter waiter;
  auto bell = Bell::hang(reactor, [&] { waiter.complete(); });
  bell->ring();
  ASSERT_TRUE(baton.wait(waiter, far()));
  const TimePoint released = Clock::now();
  ServiceThread service(baton);
  ASSERT_TRUE(eventually([&] { return baton.statistics().service_polls > 0; }));
  EXPECT_GE(Clock::now() - released, kLinger - microseconds(100));
}

// The reason for the linger: a user who calls get() in a loop pays for no hand-over at all.
TEST(BatonTest, ALoopOfWaitsHandsNothingOver) {
  Reactor reactor;
  Baton baton(reactor, std::chrono::seconds(5));
  ServiceThread service(baton);
  Waiter waiter;
  auto bell = Bell::hang(reactor, [&] { waiter.complete(); });
  constexpr std::uint64_t kRounds = 20000;
  for (std::uint64_t i = 0; i < kRounds; ++i) {
    waiter.reset();
    bell->ring();
    ASSERT_TRUE(baton.wait(waiter, far()));
  }
  const auto statistics = baton.statistics();
  EXPECT_EQ(statistics.user_polls, kRounds) << "one round each";
  EXPECT_EQ(statistics.service_polls, 0u);
  EXPECT_EQ(statistics.handovers, 0u);
  EXPECT_EQ(statistics.service_wakeups, 0u) << "nobody woke the service thread";
}

TEST(BatonTest, TheParkedServiceThreadSleepsThroughALongWait) {
  Reactor reactor;
  Baton baton(reactor, microseconds(200));
  Waiter user;
  std::thread waiting([&] { EXPECT_FALSE(baton.wait(user, in(milliseconds(300)))); });
  ASSERT_TRUE(eventually([&] { return baton.statistics().user_polls > 0; }));
  ServiceThread service(baton);
  waiting.join();
  // One nap, one end of the tenure, and the linger after it; napping all the time would make 1500.
  EXPECT_LE(baton.statistics().service_wakeups, 10u);
  EXPECT_TRUE(eventually([&] { return baton.statistics().service_polls > 0; })) << "and then takes over";
}

// A task that waits for its children gets messages for the service thread all the time.
TEST(BatonTest, AServiceThreadThatComesBackDuringALongWaitDoesNotNapAgain) {
  Reactor reactor;
  Baton baton(reactor, microseconds(200));
  Waiter user;
  auto bell = Bell::hang(reactor, [&] { user.complete(); });
  std::thread waiting([&] { EXPECT_TRUE(baton.wait(user, far())); });
  ASSERT_TRUE(eventually([&] { return baton.statistics().user_polls > 0; }));
  constexpr std::uint64_t kRounds = 20;
  for (std::uint64_t i = 0; i < kRounds; ++i) {
    Waiter service;
    EXPECT_FALSE(baton.serve(service, in(milliseconds(2))));
  }
  EXPECT_LE(baton.statistics().service_wakeups, kRounds + 5) << "one nap; two wake-ups a round with one each";
  bell->ring();
  waiting.join();
}

TEST(BatonTest, ServeRespectsItsDeadlineAndItsCompletion) {
  Reactor reactor;
  Baton baton(reactor, kLinger);
  Waiter waiter;
  EXPECT_FALSE(baton.serve(waiter, in(milliseconds(10))));
  std::thread serving([&] { EXPECT_TRUE(baton.serve(waiter, far())); });
  waiter.complete();
  serving.join();
}

TEST(BatonTest, PollNowRunsOneRoundUnlessAnotherThreadPolls) {
  Reactor reactor;
  Baton baton(reactor, kLinger);
  int heard = 0;
  auto bell = Bell::hang(reactor, [&] { ++heard; });
  EXPECT_TRUE(baton.poll_now()) << "does not wait";
  bell->ring();
  EXPECT_TRUE(baton.poll_now());
  EXPECT_EQ(heard, 1);
  Waiter waiter;
  std::thread leading([&] { baton.wait(waiter, far()); });
  ASSERT_TRUE(eventually([&] { return baton.statistics().user_polls > 2; }));
  EXPECT_FALSE(baton.poll_now());
  waiter.complete();
  leading.join();
}

TEST(BatonTest, AWatchingLoopHasTheFirstTurn) {
  Reactor reactor;
  Baton baton(reactor, std::chrono::seconds(5));
  int heard = 0;
  auto bell = Bell::hang(reactor, [&] { ++heard; });
  baton.set_watched();
  ServiceThread service(baton);
  for (int i = 1; i <= 100; ++i) {
    bell->ring();
    reactor.wait_readable(far());
    ASSERT_TRUE(baton.poll_now());
    ASSERT_EQ(heard, i);
  }
  EXPECT_EQ(baton.statistics().service_polls, 0u);
}

TEST(BatonTest, AServiceThreadThatPollsAlreadyMakesWayForAWatchingLoop) {
  Reactor reactor;
  Baton baton(reactor, kLinger);
  ServiceThread service(baton);
  ASSERT_TRUE(eventually([&] { return baton.statistics().service_polls > 0; }));
  ASSERT_FALSE(baton.poll_now()) << "the service thread has the baton";
  const TimePoint watched = Clock::now();
  baton.set_watched();
  ASSERT_TRUE(eventually([&] { return baton.poll_now(); }));
  EXPECT_LT(Clock::now() - watched, std::chrono::seconds(5)) << "not only at the end of its own wait";
}

TEST(BatonTest, WhatAWatchingLoopLeavesAloneIsPolledAfterTheLinger) {
  Reactor reactor;
  Baton baton(reactor, kLinger);
  std::atomic<int> heard{0};
  auto bell = Bell::hang(reactor, [&] { ++heard; });
  baton.set_watched();
  ServiceThread service(baton);
  for (int i = 1; i <= 3; ++i) {
    const TimePoint rung = Clock::now();
    bell->ring();
    ASSERT_TRUE(eventually([&] { return heard.load() == i; }));
    EXPECT_GE(Clock::now() - rung, kLinger - microseconds(100));
  }
  EXPECT_EQ(baton.statistics().user_polls, 0u);
}

TEST(BatonTest, AServiceThreadThatOnlyWatchesIsWokenByItsCompletion) {
  Reactor reactor;
  Baton baton(reactor, kLinger);
  baton.set_watched();
  Waiter waiter;
  std::thread serving([&] { EXPECT_TRUE(baton.serve(waiter, far())); });
  waiter.complete();
  serving.join();
}

TEST(BatonTest, AForkedChildIsToldInsteadOfHanging) {
  Reactor reactor;
  Baton baton(reactor, kLinger);
  ServiceThread service(baton);
  ASSERT_TRUE(eventually([&] { return baton.statistics().service_polls > 0; }));
  const pid_t child = fork();
  if (child == 0) {
    Waiter waiter;
    try {
      baton.wait(waiter, far());
    } catch (const std::logic_error&) {
      _exit(0);
    }
    _exit(1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

// Threads wait, are completed by the poller or by each other, time out, come back; with a service thread.
TEST(BatonTest, ManyThreadsWaitingAtOnceAllGetTheirTurn) {
  Reactor reactor;
  Baton baton(reactor, microseconds(100));
  ServiceThread service(baton);
  constexpr int kThreads = 8, kRounds = 300;
  std::atomic<int> completed{0}, timed_out{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      Waiter waiter;
      auto bell = Bell::hang(reactor, [&] { waiter.complete(); });
      for (int i = 0; i < kRounds; ++i) {
        waiter.reset();
        switch ((i + t) % 4) {
          case 0:
          case 1:  // a reply that comes through the socket
            bell->ring();
            if (baton.wait(waiter, far())) ++completed;
            break;
          case 2: {  // completed by a thread that does not poll
            std::thread other([&] { waiter.complete(); });
            if (baton.wait(waiter, far())) ++completed;
            other.join();
            break;
          }
          case 3:
            if (!baton.wait(waiter, Clock::now() + microseconds(200))) ++timed_out;
            break;
        }
      }
      // Late rings must not reach a waiter that is gone.
      waiter.reset();
      bell->ring();
      ASSERT_TRUE(baton.wait(waiter, far()));
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(completed, kThreads * kRounds * 3 / 4);
  EXPECT_EQ(timed_out, kThreads * kRounds / 4);
}

TEST(BatonTest, AWatchingLoopThatPollsDoesNotTakeTheServiceThreadsWakeUp) {
  Reactor reactor;
  Baton baton(reactor, microseconds(20));
  baton.set_watched();
  std::atomic<bool> stop{false};
  std::thread loop([&] {
    while (!stop) {
      reactor.wait_readable(in(milliseconds(5)));
      baton.poll_now();
    }
  });
  for (int i = 0; i < 500; ++i) {
    Waiter waiter;
    std::thread serving([&] { EXPECT_TRUE(baton.serve(waiter, far())); });
    // At all moments of its way to where it watches the descriptor that the loop watches too.
    const TimePoint moment = Clock::now() + microseconds(5 * (i % 100));
    eventually([&] { return Clock::now() >= moment; });
    const TimePoint began = Clock::now();
    waiter.complete();
    serving.join();
    EXPECT_LT(Clock::now() - began, std::chrono::seconds(5)) << "round " << i;
    if (HasFailure()) break;
  }
  stop = true;
  loop.join();
}

}  // namespace
}  // namespace aktis::wire
