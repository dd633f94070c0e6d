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
#include <functional>
#include <list>
#include <mutex>

#include "wire/reactor.h"

namespace aktis::wire {

// One waiting thread. complete() may be called from any thread, any number of times, with locks held.
class Waiter {
 public:
  void complete();
  bool completed() const { return completed_.load(std::memory_order_acquire); }
  void reset() { completed_.store(false, std::memory_order_release); }

 private:
  friend class Baton;
  class Baton* baton_ = nullptr;  // set while the waiter waits
  std::atomic<bool> completed_{false};
  std::condition_variable wake_;
  bool promoted_ = false;  // the baton was passed to this waiter
};

class Baton {
 public:
  Baton(Reactor& reactor, std::chrono::microseconds linger);

  // Waits, polling when it can, until `waiter` is completed (true) or the deadline passes (false).
  bool wait(Waiter& waiter, TimePoint deadline);

  // Like wait(), for the service thread: takes the baton only after it has been free for `linger`,
  // and gives it up as soon as another thread wants it.
  bool serve(Waiter& waiter, TimePoint deadline);

  // One round without waiting, for an event loop that watches reactor.fd(). False when another thread
  // is polling.
  bool poll_now();

  // Statistics for tests and metrics: rounds polled by users, by the service thread, hand-overs.
  struct Statistics {
    std::uint64_t user_polls = 0;
    std::uint64_t service_polls = 0;
    std::uint64_t handovers = 0;
  };
  Statistics statistics() const;

 private:
  friend class Waiter;
  bool poll_as_leader(Waiter& waiter, TimePoint deadline, std::unique_lock<std::mutex>& lock, bool service);
  void pass_on(std::unique_lock<std::mutex>& lock);

  Reactor& reactor_;
  const std::chrono::microseconds linger_;
  mutable std::mutex mutex_;
  // Guarded by mutex_:
  bool held_ = false;
  bool held_by_service_ = false;
  TimePoint released_at_{};
  std::list<Waiter*> followers_;  // oldest first
  Waiter* service_ = nullptr;     // the service thread's waiter while it is parked
  Statistics statistics_;
};

}  // namespace aktis::wire
