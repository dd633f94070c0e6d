// Objects that a client has asked for although the store does not have them, and that must have been sealed,
// as the client knows. Their seals can only be a moment late, because they come over other connections; what
// is not there after that is lost. Bounded: when too many are expected, the oldest are judged early.
#pragma once

#include <cstddef>
#include <deque>
#include <optional>
#include <unordered_set>
#include <utility>
#include <vector>

#include "wire/ids.h"
#include "wire/reactor.h"

namespace aktis::plasma {

class ExpectedObjects {
 public:
  ExpectedObjects(std::size_t max_objects, wire::Clock::duration grace)
      : max_objects_(max_objects), grace_(grace) {}

  void expect(const ObjectId& id, wire::TimePoint now) {
    if (ids_.insert(id).second) order_.emplace_back(now + grace_, id);
  }
  // Those whose time is over; they are forgotten. Whether they have come meanwhile is the caller's to see.
  std::vector<ObjectId> take_overdue(wire::TimePoint now) {
    std::vector<ObjectId> overdue;
    while (!order_.empty() && (order_.front().first <= now || order_.size() > max_objects_)) {
      overdue.push_back(order_.front().second);
      ids_.erase(order_.front().second);
      order_.pop_front();
    }
    return overdue;
  }
  std::optional<wire::TimePoint> next_deadline() const {
    if (order_.empty()) return std::nullopt;
    return order_.front().first;
  }

 private:
  const std::size_t max_objects_;
  const wire::Clock::duration grace_;
  std::unordered_set<ObjectId, IdHash> ids_;
  std::deque<std::pair<wire::TimePoint, ObjectId>> order_;  // oldest first
};

}  // namespace aktis::plasma
