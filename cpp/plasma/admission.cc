#include "plasma/admission.h"

#include <algorithm>

namespace aktis::plasma {

bool AdmissionQueue::push(PendingCreate pending) {
  if (queue_.size() >= max_pending_) return false;
  queue_.push_back(std::move(pending));
  return true;
}

void AdmissionQueue::pop() { queue_.pop_front(); }

void AdmissionQueue::drop_session(SessionId session) {
  std::erase_if(queue_, [&](const PendingCreate& pending) { return pending.session == session; });
}

bool AdmissionQueue::drop(SessionId session, std::uint64_t correlation) {
  return std::erase_if(queue_, [&](const PendingCreate& pending) {
           return pending.session == session && pending.correlation == correlation;
         }) > 0;
}

std::vector<PendingCreate> AdmissionQueue::take_expired(wire::TimePoint now) {
  std::vector<PendingCreate> expired;
  std::erase_if(queue_, [&](const PendingCreate& pending) {
    if (pending.deadline > now) return false;
    expired.push_back(pending);
    return true;
  });
  return expired;
}

std::optional<wire::TimePoint> AdmissionQueue::next_deadline() const {
  auto earliest = std::min_element(queue_.begin(), queue_.end(), [](const auto& left, const auto& right) {
    return left.deadline < right.deadline;
  });
  if (earliest == queue_.end()) return std::nullopt;
  return earliest->deadline;
}

std::uint64_t AdmissionQueue::waiting_bytes() const {
  std::uint64_t total = 0;
  for (const PendingCreate& pending : queue_) total += pending.request.size_bytes;
  return total;
}

}  // namespace aktis::plasma
