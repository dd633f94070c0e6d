// Callbacks that wait for their time. Pure: the caller knows what time it is, and locks.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <unordered_map>
#include <utility>

namespace aktis::wire {

class TimerQueue {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;
  using Id = std::uint64_t;  // never 0, never reused
  using Callback = std::function<void()>;

  Id add(TimePoint due, Callback callback);
  // The callback, to be destroyed where it does no harm; empty when the timer ran or never was.
  Callback cancel(Id id);
  // The next callback that is due at `now`, oldest deadline first, then oldest timer; empty when none is.
  Callback take_due(TimePoint now);
  TimePoint earliest() const;  // TimePoint::max() when there is none
  std::size_t size() const { return timers_.size(); }

 private:
  std::map<std::pair<TimePoint, Id>, Callback> timers_;
  std::unordered_map<Id, TimePoint> deadlines_;
  Id next_id_ = 1;
};

}  // namespace aktis::wire
