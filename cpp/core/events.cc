#include "core/events.h"

namespace aktis::core {
namespace {

// What an event is about, where only the latest about it counts; empty for the other kinds.
std::string subject_of(const Event& event) {
  std::string subject(1, static_cast<char>(event.kind));
  switch (event.kind) {
    case EventKind::kNeedLeases:
      return subject + std::to_string(event.key);
    case EventKind::kCancel:
    case EventKind::kCancelAsked:
    case EventKind::kObjectLost:
      return subject + event.first;
    default:
      return {};
  }
}

}  // namespace

void EventQueue::set_control_limit(std::size_t bytes) {
  const std::lock_guard guard(mutex_);
  control_limit_bytes_ = bytes;
}

bool EventQueue::push(Event event) {
  const std::string subject = subject_of(event);
  const std::lock_guard guard(mutex_);
  if (event.kind == EventKind::kControl) {
    if (control_bytes_ + event.first.size() > control_limit_bytes_) return false;
    control_bytes_ += event.first.size();
  }
  if (!subject.empty()) {
    const auto [place, is_new] = superseded_.try_emplace(subject, events_.size());
    if (!is_new) {
      Event& earlier = events_[place->second];
      // Who asked for the children to be cancelled too still wants that.
      if (event.kind == EventKind::kCancel || event.kind == EventKind::kCancelAsked) {
        event.number |= earlier.number;
        event.other |= earlier.other;
      }
      earlier = std::move(event);
      return true;
    }
  }
  const bool urgent = event.kind != EventKind::kLeaseReturned;
  events_.push_back(std::move(event));
  if (urgent) waiter_.complete();
  return true;
}

std::vector<Event> EventQueue::take() {
  const std::lock_guard guard(mutex_);
  waiter_.reset();
  control_bytes_ = 0;
  superseded_.clear();
  return std::exchange(events_, {});
}

std::size_t EventQueue::size() const {
  const std::lock_guard guard(mutex_);
  return events_.size();
}

std::size_t EventQueue::control_bytes() const {
  const std::lock_guard guard(mutex_);
  return control_bytes_;
}

}  // namespace aktis::core
