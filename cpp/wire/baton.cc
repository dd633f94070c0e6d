#include "wire/baton.h"

#include <sys/eventfd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

namespace aktis::wire {
namespace {

std::cv_status sleep(std::condition_variable& wake, std::unique_lock<std::mutex>& lock, TimePoint until) {
  // wait_until(max) would overflow in the conversion to a timespec's clock.
  if (until != TimePoint::max()) return wake.wait_until(lock, until);
  wake.wait(lock);
  return std::cv_status::no_timeout;
}

}  // namespace

void Waiter::complete() {
  std::uintptr_t seen = state_.load(std::memory_order_acquire);
  for (;;) {
    if (seen == kCompleted) return;
    if (seen == kIdle) {
      if (state_.compare_exchange_weak(seen, kCompleted, std::memory_order_acq_rel)) return;
      continue;
    }
    auto& baton = *reinterpret_cast<Baton*>(seen);
    const std::lock_guard lock(baton.mutex_);
    // The wait may have ended, by its deadline, before the lock was ours.
    if (!state_.compare_exchange_strong(seen, kCompleted, std::memory_order_acq_rel)) continue;
    if (baton.watcher_ == this) {
      ::eventfd_write(baton.watcher_wake_.get(), 1);
    } else if (baton.leader_ != this) {
      wake_.notify_one();
    } else if (baton.reactor_.polling_here()) {
      baton.reactor_.skip_wait();
    } else {
      baton.reactor_.interrupt();
    }
    return;
  }
}

// Free from now on: the service thread lingers before its first turn as before any other.
Baton::Baton(Reactor& reactor, std::chrono::microseconds linger)
    : reactor_(reactor), linger_(linger), released_at_(Clock::now()) {}

bool Baton::begin(Waiter& waiter) {
  std::uintptr_t idle = Waiter::kIdle;
  waiter.promoted_ = false;
  return waiter.state_.compare_exchange_strong(idle, reinterpret_cast<std::uintptr_t>(this),
                                               std::memory_order_acq_rel);
}

bool Baton::end(Waiter& waiter) {
  auto waiting = reinterpret_cast<std::uintptr_t>(this);
  return !waiter.state_.compare_exchange_strong(waiting, Waiter::kIdle, std::memory_order_acq_rel);
}

bool Baton::wait(Waiter& waiter, TimePoint deadline) {
  if (waiter.completed()) return true;
  reactor_.check_process();  // before the mutex: in a forked child it may be locked for ever
  Lock lock(mutex_);
  if (!begin(waiter)) return true;
  if (!held_ || follow(waiter, deadline, lock)) lead(waiter, deadline, lock, false);
  return end(waiter);
}

// Sleeps until completed or timed out (false), or until the baton was passed on to it (true).
bool Baton::follow(Waiter& waiter, TimePoint deadline, Lock& lock) {
  const auto place = followers_.insert(followers_.end(), &waiter);
  if (held_by_service_) reactor_.interrupt();
  bool in_time = true;
  while (!waiter.promoted_ && !waiter.completed() && in_time) {
    in_time = sleep(waiter.wake_, lock, deadline) == std::cv_status::no_timeout;
  }
  if (waiter.promoted_) return true;  // and was taken off the list
  followers_.erase(place);
  return false;
}

// Polls until completed, timed out or (service) wanted by another thread; then passes the baton on.
void Baton::lead(Waiter& waiter, TimePoint deadline, Lock& lock, bool service) {
  held_ = true;
  held_by_service_ = service;
  leader_ = &waiter;
  ++tenures_;
  auto& polls = service ? statistics_.service_polls : statistics_.user_polls;
  struct Release {
    Baton& baton;
    Lock& lock;
    ~Release() {
      if (!lock.owns_lock()) lock.lock();
      baton.pass_on();
    }
  } const release{*this, lock};
  const bool limited = deadline != TimePoint::max();
  const auto unwanted = [&] { return service && (watched_ || !followers_.empty()); };
  while (!waiter.completed() && !unwanted() && !(limited && Clock::now() >= deadline)) {
    ++polls;
    lock.unlock();
    try {
      reactor_.poll(deadline);
    } catch (...) {
      lock.lock();
      end(waiter);
      throw;
    }
    lock.lock();
  }
}

// The baton goes to the oldest thread that still needs it; else it is free.
void Baton::pass_on() {
  held_by_service_ = false;
  leader_ = nullptr;
  while (!followers_.empty()) {
    Waiter& next = *followers_.front();
    if (next.completed()) {
      // It was woken and is about to leave; its own erase() needs its place in the list.
      const auto pending = std::find_if(followers_.begin(), followers_.end(),
                                        [](const Waiter* follower) { return !follower->completed(); });
      if (pending == followers_.end()) break;
      followers_.splice(followers_.begin(), followers_, pending);
      continue;
    }
    followers_.pop_front();
    next.promoted_ = true;
    ++statistics_.handovers;
    next.wake_.notify_one();
    return;  // held_ stays: nobody may take it before the promoted thread runs
  }
  held_ = false;
  released_at_ = Clock::now();
  if (parked_ != nullptr) parked_->wake_.notify_one();
}

bool Baton::serve(Waiter& waiter, TimePoint deadline) {
  if (waiter.completed()) return true;
  reactor_.check_process();
  Lock lock(mutex_);
  if (!begin(waiter)) return true;
  while (!waiter.completed() && Clock::now() < deadline) {
    park(waiter, deadline, lock);
    if (held_ || waiter.completed() || Clock::now() >= deadline) continue;
    if (!watched_) {
      lead(waiter, deadline, lock, true);
    } else if (leave_first_turn(waiter, deadline, lock)) {
      poll_once(lock, statistics_.service_polls);
    }
  }
  return end(waiter);
}

// Waits until there is something to poll and for `linger` more; true when nobody has polled it by then.
bool Baton::leave_first_turn(Waiter& waiter, TimePoint deadline, Lock& lock) {
  const std::uint64_t tenure = tenures_;
  watcher_ = &waiter;
  lock.unlock();
  reactor_.wait_readable(deadline, watcher_wake_.get());
  lock.lock();
  watcher_ = nullptr;
  eventfd_t woken;
  ::eventfd_read(watcher_wake_.get(), &woken);
  const TimePoint until = std::min(deadline, Clock::now() + linger_);
  while (tenures_ == tenure && !waiter.completed() &&
         sleep(waiter.wake_, lock, until) == std::cv_status::no_timeout) {
  }
  return tenures_ == tenure && !held_ && !waiter.completed() && Clock::now() < deadline;
}

// Sleeps until the baton has been free for `linger`, or the waiter is completed or timed out. While short
// tenures of user threads follow each other it naps for `linger` at a time, so that they need not wake
// it; once a tenure has outlived a nap it sleeps until that tenure ends, also when it is woken and comes
// back.
void Baton::park(Waiter& waiter, TimePoint deadline, Lock& lock) {
  while (!waiter.completed()) {
    const TimePoint now = Clock::now();
    const TimePoint due = held_ ? now + linger_ : released_at_ + linger_;
    if (now >= deadline || (!held_ && now >= due)) return;
    const bool was_held = held_;
    const std::uint64_t tenure = tenures_;
    if (!held_ || long_tenure_ != tenure) {
      sleep(waiter.wake_, lock, std::min(due, deadline));
      ++statistics_.service_wakeups;
      if (!was_held || !held_ || tenures_ != tenure || waiter.completed()) continue;
      long_tenure_ = tenure;
    }
    parked_ = &waiter;
    while (held_ && tenures_ == tenure && !waiter.completed() &&
           sleep(waiter.wake_, lock, deadline) == std::cv_status::no_timeout) {
    }
    parked_ = nullptr;
    ++statistics_.service_wakeups;
  }
}

// One round without waiting; the baton is free.
void Baton::poll_once(Lock& lock, std::uint64_t& polls) {
  held_ = true;
  ++tenures_;
  ++polls;
  struct Release {
    Baton& baton;
    Lock& lock;
    ~Release() {
      if (!lock.owns_lock()) lock.lock();
      baton.pass_on();
    }
  } const release{*this, lock};
  lock.unlock();
  reactor_.poll(TimePoint{});  // long past: does not wait
}

bool Baton::poll_now() {
  reactor_.check_process();
  Lock lock(mutex_);
  if (held_) return false;
  poll_once(lock, statistics_.user_polls);
  return true;
}

void Baton::set_watched() {
  const Lock lock(mutex_);
  if (watched_) return;
  watcher_wake_ = UniqueFd(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  if (!watcher_wake_) throw std::system_error(errno, std::system_category(), "eventfd for a watched reactor");
  watched_ = true;
  if (held_by_service_) reactor_.interrupt();  // it would keep the baton until its own wait ends
}

Baton::Statistics Baton::statistics() const {
  const std::lock_guard lock(mutex_);
  return statistics_;
}

}  // namespace aktis::wire
