#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <future>
#include <stdexcept>
#include <thread>
#include <utility>

#include "tests/wire_test_support.h"
#include "wire/reactor.h"

namespace aktis::wire {
namespace {

using std::chrono::milliseconds;
using testing::pump;

struct Counter : EventHandler {
  void on_ready(std::uint32_t events) override {
    ++ready;
    last_events = events;
    if (when_ready) when_ready();
  }
  void on_flush() override {
    ++flushed;
    if (when_flushed) when_flushed();
  }
  int ready = 0;
  std::uint32_t last_events = 0;
  std::atomic<int> flushed{0};
  std::function<void()> when_ready;
  std::function<void()> when_flushed;
};

UniqueFd readable_fd() { return UniqueFd(eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK)); }
UniqueFd silent_fd() { return UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)); }
TimePoint soon() { return Clock::now() + milliseconds(20); }
TimePoint far() { return Clock::now() + std::chrono::seconds(10); }
bool readable(int fd) {
  pollfd request{fd, POLLIN, 0};
  return ::poll(&request, 1, 0) == 1;
}

TEST(ReactorTest, CallsTheHandlerOfAReadyDescriptor) {
  Reactor reactor;
  const UniqueFd fd = readable_fd();
  auto handler = std::make_shared<Counter>();
  reactor.add(fd.get(), EPOLLIN, handler);
  EXPECT_EQ(reactor.poll(far()), 1);
  EXPECT_EQ(handler->ready, 1);
  EXPECT_TRUE(handler->last_events & EPOLLIN);
  reactor.modify(fd.get(), EPOLLOUT);
  reactor.poll(far());
  EXPECT_TRUE(handler->last_events & EPOLLOUT);
  EXPECT_FALSE(handler->last_events & EPOLLIN);
}

TEST(ReactorTest, WaitsUntilTheDeadline) {
  Reactor reactor;
  const TimePoint deadline = soon();
  EXPECT_EQ(reactor.poll(deadline), 0);
  EXPECT_GE(Clock::now(), deadline);
  EXPECT_EQ(reactor.poll(TimePoint{}), 0) << "a deadline in the past does not wait";
}

TEST(ReactorTest, ARemovedHandlerIsNotCalledEvenWhenItsEventWasFetched) {
  Reactor reactor;
  const UniqueFd a = readable_fd(), b = readable_fd();
  auto first = std::make_shared<Counter>(), second = std::make_shared<Counter>();
  reactor.add(a.get(), EPOLLIN, first);
  reactor.add(b.get(), EPOLLIN, second);
  first->when_ready = [&] { reactor.remove(b.get()); };
  second->when_ready = [&] { reactor.remove(a.get()); };
  reactor.poll(far());
  EXPECT_EQ(first->ready + second->ready, 1);
}

TEST(ReactorTest, AnEventOfAnEarlierRegistrationIsDropped) {
  Reactor reactor;
  const UniqueFd a = readable_fd(), b = readable_fd();
  auto handler = std::make_shared<Counter>();
  bool replaced = false;
  auto replace = [&](int fd) {
    if (std::exchange(replaced, true)) return;
    reactor.remove(fd);
    reactor.add(fd, EPOLLIN, handler);  // as if the number had been reused
  };
  auto first = std::make_shared<Counter>();
  auto second = std::make_shared<Counter>();
  first->when_ready = [&] { replace(b.get()); };
  second->when_ready = [&] { replace(a.get()); };
  reactor.add(a.get(), EPOLLIN, first);
  reactor.add(b.get(), EPOLLIN, second);
  reactor.poll(far());
  EXPECT_EQ(handler->ready, 0);
  reactor.poll(far());
  EXPECT_EQ(handler->ready, 1);
}

TEST(ReactorTest, AHandlerLivesUntilItsDispatchEnds) {
  Reactor reactor;
  const UniqueFd fd = readable_fd();
  auto handler = std::make_shared<Counter>();
  std::weak_ptr<Counter> weak = handler;
  bool alive_after_remove = false;
  handler->when_ready = [&, raw = fd.get()] {
    reactor.remove(raw);
    alive_after_remove = !weak.expired();
  };
  reactor.add(fd.get(), EPOLLIN, std::move(handler));
  reactor.poll(far());
  EXPECT_TRUE(alive_after_remove);
  EXPECT_TRUE(weak.expired());
}

TEST(ReactorTest, TimersRunInOrderOnceAndNotTooEarly) {
  Reactor reactor;
  std::vector<int> order;
  const TimePoint start = Clock::now();
  reactor.call_after(milliseconds(20), [&] { order.push_back(2); });
  reactor.call_after(milliseconds(5), [&] {
    order.push_back(1);
    EXPECT_GE(Clock::now() - start, milliseconds(5));
  });
  reactor.call_after(milliseconds(0), [&] { order.push_back(0); });
  ASSERT_TRUE(pump(reactor, [&] { return order.size() == 3; }));
  EXPECT_EQ(order, (std::vector<int>{0, 1, 2}));
  EXPECT_GE(Clock::now() - start, milliseconds(20));
  reactor.poll(soon());
  EXPECT_EQ(order.size(), 3u);
}

TEST(ReactorTest, ACancelledTimerDoesNotRun) {
  Reactor reactor;
  bool early = false, late = false;
  const auto first = reactor.call_after(milliseconds(1), [&] { early = true; });
  reactor.call_after(milliseconds(10), [&] { late = true; });
  reactor.cancel(first);
  ASSERT_TRUE(pump(reactor, [&] { return late; }));
  EXPECT_FALSE(early);
  reactor.cancel(first);
}

TEST(ReactorTest, ATimerThatIsAlwaysDueDoesNotStarveDescriptors) {
  Reactor reactor;
  const UniqueFd fd = readable_fd();
  auto handler = std::make_shared<Counter>();
  std::function<void()> again = [&] { reactor.call_after(milliseconds(0), again); };
  again();
  reactor.add(fd.get(), EPOLLIN, handler);
  EXPECT_TRUE(pump(reactor, [&] { return handler->ready > 2; }));
}

TEST(ReactorTest, PostedWorkRunsOnThePollerAndWakesIt) {
  Reactor reactor;
  std::thread::id ran_on;
  std::promise<void> polling;
  std::thread other([&] {
    polling.get_future().wait();
    reactor.post([&] { ran_on = std::this_thread::get_id(); });
  });
  polling.set_value();
  ASSERT_TRUE(pump(reactor, [&] { return ran_on != std::thread::id{}; }));
  EXPECT_EQ(ran_on, std::this_thread::get_id());
  other.join();
}

TEST(ReactorTest, APollThatRanPostedWorkDoesNotWait) {
  Reactor reactor;
  reactor.post([] {});
  EXPECT_EQ(reactor.poll(TimePoint::max()), 1);
}

TEST(ReactorTest, InterruptEndsAWaitOrPreventsTheNext) {
  Reactor reactor;
  reactor.interrupt();
  reactor.poll(TimePoint::max());
  for (int i = 0; i < 200; ++i) {
    std::thread other([&] { reactor.interrupt(); });
    reactor.poll(TimePoint::max());  // hangs when the interrupt is lost
    other.join();
  }
}

TEST(ReactorTest, AnInterruptNobodyWaitsForWritesNothing) {
  Reactor reactor;
  for (int i = 0; i < 10; ++i) reactor.interrupt();
  EXPECT_EQ(reactor.poll(TimePoint::max()), 0);
  const TimePoint deadline = soon();
  reactor.poll(deadline);
  EXPECT_GE(Clock::now(), deadline) << "a left-over wake-up ended the wait";
}

TEST(ReactorTest, ItsDescriptorIsReadableWheneverPollWouldFindSomething) {
  Reactor reactor;
  EXPECT_FALSE(readable(reactor.fd()));
  reactor.post([] {});
  EXPECT_TRUE(readable(reactor.fd())) << "posted work";
  reactor.poll(TimePoint{});
  reactor.poll(TimePoint{});
  EXPECT_FALSE(readable(reactor.fd()));
  reactor.interrupt();
  EXPECT_TRUE(readable(reactor.fd())) << "interrupt";
  reactor.poll(TimePoint{});
  EXPECT_FALSE(readable(reactor.fd()));
  reactor.call_after(milliseconds(1), [] {});
  pollfd request{reactor.fd(), POLLIN, 0};
  EXPECT_EQ(::poll(&request, 1, 5000), 1) << "a timer that is due";
  reactor.poll(TimePoint{});
  EXPECT_FALSE(readable(reactor.fd()));
  auto handler = std::make_shared<Counter>();
  reactor.flush_later(handler);
  EXPECT_EQ(::poll(&request, 1, 5000), 1) << "a flush that is due";
  reactor.poll(TimePoint{});
  EXPECT_EQ(handler->flushed, 1);
}

TEST(ReactorTest, FlushesBeforeItWaits) {
  Reactor reactor;
  int hook_calls = 0;
  reactor.add_flush_hook([&] { ++hook_calls; });
  auto handler = std::make_shared<Counter>();
  reactor.flush_later(handler);
  reactor.poll(TimePoint{});
  EXPECT_EQ(handler->flushed, 1);
  EXPECT_EQ(hook_calls, 1);
  reactor.poll(TimePoint{});
  EXPECT_EQ(handler->flushed, 1);
  EXPECT_EQ(hook_calls, 2);
}

TEST(ReactorTest, FlushesWhatItsHandlersAskedForBeforeItReturns) {
  Reactor reactor;
  const UniqueFd fd = readable_fd();
  auto handler = std::make_shared<Counter>();
  handler->when_ready = [&] { reactor.flush_later(handler); };
  reactor.add(fd.get(), EPOLLIN, handler);
  reactor.poll(far());
  EXPECT_EQ(handler->flushed, 1);
}

TEST(ReactorTest, AFlushThatIsAskedForWhileItWaitsComesSoonWithoutAnyEvent) {
  Reactor reactor;
  auto handler = std::make_shared<Counter>();
  std::thread other([&] {
    for (int i = 0; i < 20; ++i) {
      const int before = handler->flushed;
      reactor.flush_later(handler);
      while (handler->flushed == before) std::this_thread::yield();
    }
  });
  EXPECT_TRUE(pump(reactor, [&] { return handler->flushed == 20; }));
  other.join();
}

TEST(ReactorTest, SkipWaitHoldsForTheRoundOnly) {
  Reactor reactor;
  int calls = 0;
  reactor.add_flush_hook([&] {
    if (++calls == 1) reactor.skip_wait();
  });
  reactor.poll(TimePoint::max());
  const TimePoint deadline = soon();
  reactor.poll(deadline);
  EXPECT_GE(Clock::now(), deadline);
}

TEST(ReactorTest, KnowsWhichThreadIsInsidePoll) {
  Reactor reactor, other;
  bool inside = false, other_inside = true;
  reactor.post([&] {
    inside = reactor.polling_here();
    other_inside = other.polling_here();
  });
  reactor.poll(TimePoint{});
  EXPECT_TRUE(inside);
  EXPECT_FALSE(other_inside);
  EXPECT_FALSE(reactor.polling_here());
}

TEST(ReactorTest, WhatAHandlerThrowsComesOutAndTheReactorGoesOn) {
  Reactor reactor;
  reactor.post([] { throw std::runtime_error("from a callback"); });
  EXPECT_THROW(reactor.poll(far()), std::runtime_error);
  EXPECT_FALSE(reactor.polling_here());
  reactor.post([] {});
  EXPECT_EQ(reactor.poll(far()), 1);
}

TEST(ReactorTest, AForkedChildIsToldAndCannotDisturbItsParent) {
  auto reactor = std::make_unique<Reactor>();
  const UniqueFd fd = silent_fd();
  auto handler = std::make_shared<Counter>();
  reactor->add(fd.get(), EPOLLIN, handler);
  const pid_t child = fork();
  if (child == 0) {
    int failures = 0;
    try {
      reactor->poll(TimePoint{});
      ++failures;
    } catch (const std::logic_error& error) {
      if (std::string(error.what()).find("forked") == std::string::npos) ++failures;
    }
    try {
      reactor->add(0, EPOLLIN, handler);
      ++failures;
    } catch (const std::logic_error&) {
    }
    if (!reactor->in_forked_child()) ++failures;
    reactor->remove(fd.get());
    reactor.reset();
    _exit(failures);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  const std::uint64_t one = 1;
  ASSERT_EQ(::write(fd.get(), &one, sizeof(one)), static_cast<ssize_t>(sizeof(one)));
  EXPECT_EQ(reactor->poll(far()), 1) << "the child removed the parent's descriptor";
}

TEST(ReactorTest, ManyThreadsMayUseItAtOnce) {
  Reactor reactor;
  std::atomic<int> ran{0};
  constexpr int kThreads = 4, kEach = 500;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < kEach; ++i) {
        const UniqueFd fd = readable_fd();
        reactor.add(fd.get(), EPOLLIN, std::make_shared<Counter>());
        reactor.post([&] { ++ran; });
        reactor.call_after(milliseconds(i % 3), [&] { ++ran; });
        reactor.cancel(reactor.call_after(milliseconds(1), [] {}));
        reactor.interrupt();
        reactor.remove(fd.get());
      }
    });
  }
  EXPECT_TRUE(pump(reactor, [&] { return ran == 2 * kThreads * kEach; }));
  for (auto& thread : threads) thread.join();
}

// Requests come so soon after one another that the poller spins, and so late now and then that it sleeps:
// none may be missed at the moment when it goes from one to the other.
TEST(ReactorTest, NothingIsMissedBetweenSpinningAndSleeping) {
  Reactor reactor(std::chrono::microseconds(20));
  std::atomic<int> ran{0};
  std::atomic<bool> stop{false};
  std::thread poller([&] {
    while (!stop) reactor.poll(TimePoint::max());
  });
  bool all = true;
  for (int round = 1; round <= 5000 && all; ++round) {
    reactor.post([&] { ++ran; });
    const TimePoint deadline = far();
    while (ran < round && Clock::now() < deadline) std::this_thread::yield();
    all = ran == round;
    const TimePoint next = Clock::now() + std::chrono::microseconds(round % 64);
    while (Clock::now() < next) std::this_thread::yield();
  }
  stop = true;
  reactor.interrupt();
  poller.join();
  EXPECT_TRUE(all) << "after " << ran << " rounds";
}

}  // namespace
}  // namespace aktis::wire
