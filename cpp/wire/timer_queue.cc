#include "wire/timer_queue.h"

namespace aktis::wire {

TimerQueue::Id TimerQueue::add(TimePoint due, Callback callback) {
  const Id id = next_id_++;
  timers_.emplace(std::pair{due, id}, std::move(callback));
  deadlines_.emplace(id, due);
  return id;
}

TimerQueue::Callback TimerQueue::cancel(Id id) {
  const auto found = deadlines_.find(id);
  if (found == deadlines_.end()) return {};
  auto cancelled = timers_.extract({found->second, id});
  deadlines_.erase(found);
  return std::move(cancelled.mapped());
}

TimerQueue::Callback TimerQueue::take_due(TimePoint now) {
  if (timers_.empty() || earliest() > now) return {};
  auto first = timers_.extract(timers_.begin());
  deadlines_.erase(first.key().second);
  return std::move(first.mapped());
}

TimerQueue::TimePoint TimerQueue::earliest() const {
  return timers_.empty() ? TimePoint::max() : timers_.begin()->first.first;
}

}  // namespace aktis::wire
