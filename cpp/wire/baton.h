// Leader/follower: which thread polls the reactor.
//
// A thread that must wait takes the baton if it is free and polls until its own condition holds; else
// it sleeps on its own condition variable until the poller completes it or passes it the baton. A
// service thread polls while nobody else does, so that replies and reference traffic go on while user
// code computes. Nothing here knows about Python: callers release the GIL first.
//
// Why the service thread lingers: a user thread that calls get() in a loop would otherwise pay two
// wake-ups per call to hand the baton to and fro. After a user thread lets go, the baton stays free
// for `linger`; only when nobody has taken it by then does the service thread (woken by its own timer,
// never by the releasing thread) take it.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <list>
#include <mutex>

#include "wire/reactor.h"
#include "wire/socket.h"

namespace aktis::wire {

class Baton;

// One waiting thread. complete() may be called from any thread, any number of times, with locks held.
// The waiter must be alive when complete() is called; threads that complete the same waiter at the same
// time do so under a lock that its owner takes before it destroys the waiter.
class Waiter {
 public:
  void complete();
  bool completed() const { return state_.load(std::memory_order_acquire) == kCompleted; }
  void reset() { state_.store(kIdle, std::memory_order_release); }  // not while it waits

 private:
  friend class Baton;
  static constexpr std::uintptr_t kIdle = 0;
  static constexpr std::uintptr_t kCompleted = 1;
  // kIdle, kCompleted, or the address of the Baton at which it waits. It changes between a Baton and
  // another value only under that baton's mutex, so that complete() and the end of a wait exclude each other.
  std::atomic<std::uintptr_t> state_{kIdle};
  // Guarded by the baton's mutex while the waiter waits:
  std::condition_variable wake_;
  bool promoted_ = false;  // the baton was passed to this waiter
};

class Baton {
 public:
  Baton(Reactor& reactor, std::chrono::microseconds linger);

  // Waits, polling when it can, until `waiter` is completed (true) or the deadline passes (false).
  // TimePoint::max(): no deadline. What a handler throws comes out here, with the baton released.
  bool wait(Waiter& waiter, TimePoint deadline);

  // Like wait(), for the service thread: takes the baton only after it has been free for `linger`,
  // and gives it up as soon as another thread wants it. One service thread at a time.
  bool serve(Waiter& waiter, TimePoint deadline);

  // One round without waiting, for an event loop that watches reactor.fd(). False when another thread
  // is polling.
  bool poll_now();
  // From now on an event loop watches reactor.fd() and calls poll_now(). The service thread then only polls
  // what the loop has left alone for `linger`, because it runs user code: otherwise the two would race for
  // every frame, and the loop would need another thread's help for what it can do by itself. Throws
  // std::system_error when no descriptor is left.
  void set_watched();

  // Statistics for tests and metrics: rounds polled by users, by the service thread; how often the baton
  // was passed to a thread that slept; how often the service thread woke while it was parked.
  struct Statistics {
    std::uint64_t user_polls = 0;
    std::uint64_t service_polls = 0;
    std::uint64_t handovers = 0;
    std::uint64_t service_wakeups = 0;
  };
  Statistics statistics() const;

 private:
  friend class Waiter;
  using Lock = std::unique_lock<std::mutex>;

  bool begin(Waiter& waiter);  // false when it is completed already
  bool end(Waiter& waiter);    // true when it was completed
  bool follow(Waiter& waiter, TimePoint deadline, Lock& lock);
  void lead(Waiter& waiter, TimePoint deadline, Lock& lock, bool service);
  void park(Waiter& waiter, TimePoint deadline, Lock& lock);
  bool leave_first_turn(Waiter& waiter, TimePoint deadline, Lock& lock);
  void poll_once(Lock& lock, std::uint64_t& polls);
  void pass_on();

  Reactor& reactor_;
  const std::chrono::microseconds linger_;
  mutable std::mutex mutex_;
  // Guarded by mutex_:
  bool held_ = false;
  bool held_by_service_ = false;
  Waiter* leader_ = nullptr;       // the waiter of the thread that polls
  std::uint64_t tenures_ = 0;      // how often the baton was taken
  std::uint64_t long_tenure_ = 0;  // the last one that has outlived a nap of the service thread
  TimePoint released_at_;          // when it became free last
  std::list<Waiter*> followers_;   // oldest first
  bool watched_ = false;           // by an event loop
  // Wakes the service thread where it watches the descriptor that the loop watches too: what wakes that one
  // may have been taken away by the loop before both have seen it.
  UniqueFd watcher_wake_;
  Waiter* watcher_ =
      nullptr;  // the service thread's waiter while it looks at the descriptor without the baton
  Waiter* parked_ = nullptr;  // the service thread's waiter while it sleeps until a long tenure ends
  Statistics statistics_;
};

}  // namespace aktis::wire
