// One epoll instance and its timers. Exactly one thread polls at a time (see wire/baton.h); any
// thread may add, change or remove descriptors, arm timers, or interrupt the poller.
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
};

class Reactor {
 public:
  Reactor();  // throws std::system_error when epoll or eventfd cannot be made
  ~Reactor();
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

  // One round: posted work, flush hooks, one epoll_wait of at most `deadline`, handlers, due timers.
  // Returns the number of handlers that ran. Only the baton's holder calls it.
  int poll(TimePoint deadline);
  void interrupt();  // makes a poll() that waits return soon; any thread; async-signal-safe

  // Runs before every epoll_wait: connections flush what was queued for later sending.
  void add_flush_hook(std::function<void()> hook);

  // The epoll descriptor: readable when poll() would find something. An asyncio loop may watch it.
  int fd() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace aktis::wire
