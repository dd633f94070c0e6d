// One epoll instance and its timers. Exactly one thread polls at a time (see wire/baton.h); any
// thread may add, change or remove descriptors, arm timers, or interrupt the poller.
//
// After a fork the child must not use it: it shares the parent's epoll set. Every method but the
// destructor, remove(), cancel() and fd() throws std::logic_error there; those do nothing to the set.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>

namespace aktis::wire {

using Clock = std::chrono::steady_clock;
using TimePoint = Clock::time_point;

class EventHandler {
 public:
  virtual ~EventHandler() = default;
  // Called on the polling thread with the epoll event bits. No lock of the reactor is held.
  virtual void on_ready(std::uint32_t events) = 0;
  // What flush_later() asked for; on the polling thread. No lock of the reactor is held.
  virtual void on_flush() {}
};

class Reactor {
 public:
  // `spin`: a poll() that waits may look for so long before it sleeps, while waits are short
  // (wire/patience.h). Throws std::system_error when epoll or eventfd cannot be made.
  explicit Reactor(std::chrono::microseconds spin = {});
  ~Reactor();
  // Another `spin`, from the next poll() on. Any thread.
  void set_spin(std::chrono::microseconds spin);
  Reactor(const Reactor&) = delete;
  Reactor& operator=(const Reactor&) = delete;

  // The handler is kept alive until remove() has returned and no dispatch of it is under way.
  // Level-triggered. `events`: EPOLLIN | EPOLLOUT | ...
  void add(int fd, std::uint32_t events, std::shared_ptr<EventHandler> handler);
  void modify(int fd, std::uint32_t events);
  void remove(int fd);  // before the descriptor is closed

  // Runs `callback` on the polling thread once, not before the delay has passed.
  using TimerId = std::uint64_t;
  TimerId call_after(std::chrono::milliseconds delay, std::function<void()> callback);
  void cancel(TimerId timer);  // no effect when it has run

  // Runs `callback` on the polling thread before it waits next; wakes it. For work that must not run
  // on the calling thread (a lock is held, a connection is being closed). Bounded by its callers.
  void post(std::function<void()> callback);

  // Calls handler->on_flush() before the poller waits next. Does not wake a poller that waits already:
  // then it comes at most kFlushDelay later, so that a thread which queues many frames pays for one
  // wake-up, not for one per frame. Callers ask once until on_flush() has come.
  static constexpr std::chrono::microseconds kFlushDelay{500};
  void flush_later(std::shared_ptr<EventHandler> handler);

  // One round: posted work, flush hooks, one epoll_wait of at most `deadline` (which does not wait when
  // posted work ran), handlers, due timers, flushes that those asked for. Returns the number of posted
  // callbacks, handlers and timers that ran. Only the baton's holder calls it. TimePoint::max(): no limit.
  int poll(TimePoint deadline);
  // Makes a poll() that waits return soon, or the next one not wait; any thread; async-signal-safe.
  void interrupt();

  // For the poller's own callbacks: the poll() that runs must not go on to wait. Costs no system call.
  void skip_wait();
  bool polling_here() const;  // this thread is inside poll()
  bool in_forked_child() const;
  void check_process() const;  // throws std::logic_error in a forked child

  // Runs before every epoll_wait, never removed.
  void add_flush_hook(std::function<void()> hook);

  // The epoll descriptor: readable when poll() would find something. An asyncio loop may watch it.
  int fd() const;
  // Waits until fd() is readable, without polling; at most until the deadline. Any thread. `also`: another
  // descriptor that ends the wait when it is readable.
  void wait_readable(TimePoint deadline, int also = -1) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace aktis::wire
