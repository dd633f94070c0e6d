// How the poller is woken with few system calls:
// * `pending_` is set by interrupt(); the eventfd is written only when a poller may be waiting
//   (`waiting_`) or something outside watches the epoll descriptor (`watched_`). Both sides store their
//   own flag before they load the other's (sequentially consistent), so that one of them sees the other.
// * The timerfd is armed for the earliest moment of any timer, and re-armed only when an earlier one
//   comes; after a cancelled one it may fire for nothing, once.
#include "wire/reactor.h"

#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <mutex>
#include <stdexcept>
#include <system_error>
#include <unordered_map>
#include <utility>
#include <vector>

#include "wire/patience.h"
#include "wire/socket.h"
#include "wire/timer_queue.h"

namespace aktis::wire {
namespace {

constexpr int kMaxEventsPerWait = 64;
constexpr int kMaxFlushPasses = 4;

// epoll_event.data: the descriptor and the generation of its registration, so that an event of a
// descriptor that was removed (and perhaps reused) meanwhile is dropped.
constexpr std::uint64_t pack(int fd, std::uint32_t generation) {
  return (static_cast<std::uint64_t>(generation) << 32) | static_cast<std::uint32_t>(fd);
}

thread_local const void* polling_on_this_thread = nullptr;

void check(int result, const char* what) {
  if (result < 0) throw std::system_error(errno, std::system_category(), what);
}

// Where there is one processor, nobody can answer while the poller looks.
int usable_processors() {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
}

timespec to_timespec(std::chrono::nanoseconds duration) {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(duration);
  return {static_cast<time_t>(seconds.count()), static_cast<long>((duration - seconds).count())};
}

}  // namespace

struct Reactor::Impl {
  struct Registration {
    std::shared_ptr<EventHandler> handler;
    std::uint32_t generation = 0;
  };
  using Handlers = std::vector<std::shared_ptr<EventHandler>>;

  const std::uint64_t fork_generation_ = fork_generation();
  UniqueFd epoll_, wake_, timer_;

  std::atomic<bool> pending_{false};   // interrupted since the last wait
  std::atomic<bool> waiting_{false};   // a poller is about to wait or waits
  std::atomic<bool> watched_{false};   // fd() was handed out
  std::atomic<bool> deferred_{false};  // posted_ or flushes_ is not empty
  bool skip_wait_ = false;             // poller only
  bool interrupted_ = false;           // poller only: it took an interrupter's wake-up
  Patience patience_;                  // poller only

  std::mutex mutex_;  // guards what follows; never held while a callback runs
  std::unordered_map<int, Registration> registrations_;
  std::uint32_t next_generation_ = 1;
  TimerQueue timers_;
  TimePoint armed_for_ = TimePoint::max();  // what the timerfd is set to
  TimePoint flush_due_ = TimePoint::max();
  std::vector<std::function<void()>> posted_;
  std::vector<std::function<void()>> flush_hooks_;
  Handlers flushes_;

  explicit Impl(std::chrono::microseconds spin);
  bool forked() const { return fork_generation_ != fork_generation(); }
  void check_process() const;
  void wake();
  void arm_locked();
  int run_posted();
  void run_flush_hooks();
  void run_flushes();
  int wait(TimePoint deadline, bool may_wait, epoll_event* events);
  int spin(TimePoint until, epoll_event* events);
  int sleep(TimePoint deadline, epoll_event* events);
  int dispatch(const epoll_event* events, int count);
  int run_timers();
  void drain_wake();
};

// With one processor the one who is waited for could not run meanwhile.
std::chrono::microseconds affordable(std::chrono::microseconds spin) {
  return usable_processors() > 1 ? spin : std::chrono::microseconds(0);
}

Reactor::Impl::Impl(std::chrono::microseconds spin)
    : epoll_(epoll_create1(EPOLL_CLOEXEC)),
      wake_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)),
      timer_(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)),
      patience_(affordable(spin)) {
  check(epoll_.get(), "epoll_create1 for a reactor");
  check(wake_.get(), "eventfd for a reactor");
  check(timer_.get(), "timerfd_create for a reactor");
  for (const int fd : {wake_.get(), timer_.get()}) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = pack(fd, 0);
    check(epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event), "epoll_ctl for a reactor's own descriptor");
  }
}

void Reactor::Impl::check_process() const {
  if (forked()) {
    throw std::logic_error(
        "this process was forked from one that uses Aktis and cannot use its connections; call "
        "aktis.init() in the new process, or start it with the spawn method instead of fork");
  }
}

void Reactor::Impl::wake() {
  if (!waiting_.load() && !watched_.load()) return;
  const int saved_errno = errno;  // interrupt() may run in a signal handler
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(wake_.get(), &one, sizeof(one));
  errno = saved_errno;
}

void Reactor::Impl::drain_wake() {
  std::uint64_t count;
  [[maybe_unused]] const ssize_t got = ::read(wake_.get(), &count, sizeof(count));
  interrupted_ = true;
}

// Makes the timerfd fire no later than the earliest timer or flush. Setting it also clears an expiry.
void Reactor::Impl::arm_locked() {
  const TimePoint earliest = std::min(timers_.earliest(), flush_due_);
  if (earliest >= armed_for_) return;
  armed_for_ = earliest;
  itimerspec spec{};
  // Zero would disarm it.
  spec.it_value = to_timespec(std::max(earliest.time_since_epoch(), Clock::duration(1)));
  check(timerfd_settime(timer_.get(), TFD_TIMER_ABSTIME, &spec, nullptr), "timerfd_settime for a reactor");
}

int Reactor::Impl::run_posted() {
  std::vector<std::function<void()>> batch;
  {
    const std::lock_guard lock(mutex_);
    batch.swap(posted_);
    if (flushes_.empty()) deferred_.store(false);
  }
  for (auto& callback : batch) callback();
  return static_cast<int>(batch.size());
}

void Reactor::Impl::run_flush_hooks() {
  // Hooks are only ever appended; index, because one may add another.
  for (std::size_t i = 0;; ++i) {
    std::function<void()> hook;
    {
      const std::lock_guard lock(mutex_);
      if (i >= flush_hooks_.size()) return;
      hook = flush_hooks_[i];
    }
    hook();
  }
}

void Reactor::Impl::run_flushes() {
  // A flush may make a peer's handler queue more only through the socket, so that few passes suffice.
  for (int pass = 0; pass < kMaxFlushPasses && deferred_.load(); ++pass) {
    Handlers batch;
    {
      const std::lock_guard lock(mutex_);
      batch.swap(flushes_);
      flush_due_ = TimePoint::max();
      if (posted_.empty()) deferred_.store(false);
    }
    if (batch.empty()) return;
    for (auto& handler : batch) handler->on_flush();
  }
}

// Fills `events`; returns how many.
int Reactor::Impl::wait(TimePoint deadline, bool may_wait, epoll_event* events) {
  if (!may_wait || deadline <= Clock::now()) return sleep(TimePoint{}, events);
  const TimePoint began = Clock::now();
  int count = 0;
  if (patience_.worth_spinning()) count = spin(std::min(deadline, began + patience_.spin()), events);
  // As in sleep(): the poller looks now, and whoever interrupts from now on must wake it anew.
  if (count != 0) pending_.store(false);
  if (count == 0) count = sleep(deadline, events);
  patience_.waited(Clock::now() - began);
  return count;
}

// Looks until there is something or somebody interrupts; who does need not write the eventfd meanwhile.
// Others who could run go first.
int Reactor::Impl::spin(TimePoint until, epoll_event* events) {
  const timespec no_time{0, 0};
  while (!pending_.load() && !deferred_.load()) {
    const int count = epoll_pwait2(epoll_.get(), events, kMaxEventsPerWait, &no_time, nullptr);
    if (count != 0) return std::max(count, 0);  // an error is seen again by sleep()
    sched_yield();
    if (Clock::now() >= until) break;
  }
  return 0;
}

int Reactor::Impl::sleep(TimePoint deadline, epoll_event* events) {
  waiting_.store(true);
  timespec timeout{0, 0};
  const timespec* limit = &timeout;
  if (!pending_.load() && !deferred_.load()) {
    if (deadline == TimePoint::max()) {
      limit = nullptr;
    } else if (const auto left = deadline - Clock::now(); left.count() > 0) {
      timeout = to_timespec(left);
    }
  }
  const int count = epoll_pwait2(epoll_.get(), events, kMaxEventsPerWait, limit, nullptr);
  const int error = errno;
  waiting_.store(false);
  pending_.store(false);
  if (count >= 0) return count;
  if (error == EINTR) return 0;
  throw std::system_error(error, std::system_category(), "epoll_pwait2 of a reactor");
}

int Reactor::Impl::dispatch(const epoll_event* events, int count) {
  int handled = 0;
  bool timer_fired = false;
  for (int i = 0; i < count; ++i) {
    const int fd = static_cast<int>(events[i].data.u64 & 0xffffffffu);
    const auto generation = static_cast<std::uint32_t>(events[i].data.u64 >> 32);
    if (generation == 0) {
      if (fd == timer_.get()) timer_fired = true;
      if (fd == wake_.get()) drain_wake();
      continue;
    }
    std::shared_ptr<EventHandler> handler;
    {
      const std::lock_guard lock(mutex_);
      const auto found = registrations_.find(fd);
      if (found == registrations_.end() || found->second.generation != generation) continue;
      handler = found->second.handler;
    }
    handler->on_ready(events[i].events);
    ++handled;
  }
  if (timer_fired) handled += run_timers();
  return handled;
}

int Reactor::Impl::run_timers() {
  const TimePoint now = Clock::now();
  int ran = 0;
  for (;;) {
    std::function<void()> callback;
    {
      const std::lock_guard lock(mutex_);
      callback = timers_.take_due(now);
    }
    if (!callback) break;
    callback();
    ++ran;
  }
  const std::lock_guard lock(mutex_);
  if (flush_due_ <= now) flush_due_ = TimePoint::max();  // poll() flushes before it returns
  armed_for_ = TimePoint::max();
  arm_locked();
  if (armed_for_ == TimePoint::max()) {
    const itimerspec off{};
    check(timerfd_settime(timer_.get(), 0, &off, nullptr), "timerfd_settime for a reactor");
  }
  return ran;
}

Reactor::Reactor(std::chrono::microseconds spin) : impl_(std::make_unique<Impl>(spin)) {}
void Reactor::set_spin(std::chrono::microseconds spin) {
  post([this, spin] { impl_->patience_ = Patience(affordable(spin)); });  // it is the poller's
}

Reactor::~Reactor() {
  // Handlers may be destroyed here and call remove(): impl_ must still be in place then.
  if (impl_->forked()) {
    // Their locks may be held by threads that do not exist here; they are the parent's.
    return;
  }
  std::unordered_map<int, Impl::Registration> handlers;
  {
    const std::lock_guard lock(impl_->mutex_);
    handlers.swap(impl_->registrations_);
  }
}

void Reactor::add(int fd, std::uint32_t events, std::shared_ptr<EventHandler> handler) {
  check_process();
  const std::lock_guard lock(impl_->mutex_);
  const std::uint32_t generation = impl_->next_generation_++;
  if (impl_->next_generation_ == 0) impl_->next_generation_ = 1;  // 0 marks our own descriptors
  epoll_event event{};
  event.events = events;
  event.data.u64 = pack(fd, generation);
  check(epoll_ctl(impl_->epoll_.get(), EPOLL_CTL_ADD, fd, &event), "epoll_ctl to add a descriptor");
  impl_->registrations_[fd] = {std::move(handler), generation};
}

void Reactor::modify(int fd, std::uint32_t events) {
  check_process();
  const std::lock_guard lock(impl_->mutex_);
  const auto found = impl_->registrations_.find(fd);
  if (found == impl_->registrations_.end())
    throw std::logic_error("Reactor::modify: descriptor was not added");
  epoll_event event{};
  event.events = events;
  event.data.u64 = pack(fd, found->second.generation);
  check(epoll_ctl(impl_->epoll_.get(), EPOLL_CTL_MOD, fd, &event), "epoll_ctl to change a descriptor");
}

void Reactor::remove(int fd) {
  if (impl_->forked()) return;
  Impl::Registration removed;  // destroyed after the lock is released
  const std::lock_guard lock(impl_->mutex_);
  const auto found = impl_->registrations_.find(fd);
  if (found == impl_->registrations_.end()) return;
  removed = std::move(found->second);
  impl_->registrations_.erase(found);
  epoll_ctl(impl_->epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
}

Reactor::TimerId Reactor::call_after(std::chrono::milliseconds delay, std::function<void()> callback) {
  check_process();
  const TimePoint due = Clock::now() + delay;
  const std::lock_guard lock(impl_->mutex_);
  const TimerId id = impl_->timers_.add(due, std::move(callback));
  impl_->arm_locked();
  return id;
}

void Reactor::cancel(TimerId timer) {
  if (impl_->forked()) return;
  std::function<void()> cancelled;  // destroyed after the lock is released
  const std::lock_guard lock(impl_->mutex_);
  cancelled = impl_->timers_.cancel(timer);
}

void Reactor::post(std::function<void()> callback) {
  check_process();
  {
    const std::lock_guard lock(impl_->mutex_);
    impl_->posted_.push_back(std::move(callback));
    impl_->deferred_.store(true);
  }
  impl_->wake();
}

void Reactor::flush_later(std::shared_ptr<EventHandler> handler) {
  check_process();
  const std::lock_guard lock(impl_->mutex_);
  impl_->flushes_.push_back(std::move(handler));
  impl_->deferred_.store(true);
  if (polling_here()) return;
  if ((impl_->waiting_.load() || impl_->watched_.load()) && impl_->flush_due_ == TimePoint::max()) {
    impl_->flush_due_ = Clock::now() + kFlushDelay;
    impl_->arm_locked();
  }
}

int Reactor::poll(TimePoint deadline) {
  check_process();
  struct Here {
    explicit Here(const void* reactor) : outer(std::exchange(polling_on_this_thread, reactor)) {}
    ~Here() { polling_on_this_thread = outer; }
    const void* const outer;
  } const here(impl_.get());
  impl_->skip_wait_ = false;
  int handled = impl_->deferred_.load() ? impl_->run_posted() : 0;
  impl_->run_flush_hooks();
  impl_->run_flushes();
  epoll_event events[kMaxEventsPerWait];
  const int count = impl_->wait(deadline, handled == 0 && !impl_->skip_wait_, events);
  handled += impl_->dispatch(events, count);
  // What the interrupter left for the hooks came after they ran, and an event loop need not come again.
  if (std::exchange(impl_->interrupted_, false) && impl_->watched_.load()) impl_->run_flush_hooks();
  impl_->run_flushes();
  return handled;
}

void Reactor::interrupt() {
  // A writer that was first has written, or will: waiting_ was or is going to be seen by it.
  if (!impl_->pending_.exchange(true)) impl_->wake();
}

void Reactor::skip_wait() { impl_->skip_wait_ = true; }

bool Reactor::polling_here() const { return polling_on_this_thread == impl_.get(); }

bool Reactor::in_forked_child() const { return impl_->forked(); }

void Reactor::check_process() const { impl_->check_process(); }

void Reactor::add_flush_hook(std::function<void()> hook) {
  check_process();
  const std::lock_guard lock(impl_->mutex_);
  impl_->flush_hooks_.push_back(std::move(hook));
}

int Reactor::fd() const {
  impl_->watched_.store(true);
  const bool work = impl_->pending_.load() || impl_->deferred_.load();
  if (work) impl_->wake();
  return impl_->epoll_.get();
}

void Reactor::wait_readable(TimePoint deadline, int also) const {
  pollfd entries[] = {{fd(), POLLIN, 0}, {also, POLLIN, 0}};  // a negative descriptor is left out
  const auto left = deadline - Clock::now();
  if (left <= Clock::duration::zero()) return;
  const timespec timeout = to_timespec(std::min<std::chrono::nanoseconds>(left, std::chrono::hours(24)));
  // A signal ends the wait early: the caller looks again.
  ::ppoll(entries, 2, &timeout, nullptr);
}

}  // namespace aktis::wire
