// Creations that wait for room: strictly in order, each with a deadline, bounded per client.
//
// Order is kept even when a later, smaller request would fit: otherwise a stream of small objects starves
// a large one for ever. Pure: whoever owns it tries the front when room appears and asks for what expired.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "plasma/protocol.h"
#include "wire/reactor.h"

namespace aktis::plasma {

using SessionId = std::uint64_t;

struct PendingCreate {
  SessionId session = 0;
  std::uint64_t correlation = 0;
  CreateRequest request;
  wire::TimePoint deadline;
};

class AdmissionQueue {
 public:
  explicit AdmissionQueue(std::size_t max_pending) : max_pending_(max_pending) {}

  bool push(PendingCreate pending);  // false when the queue is full
  const PendingCreate* front() const { return queue_.empty() ? nullptr : &queue_.front(); }
  void pop();
  void drop_session(SessionId session);
  bool drop(SessionId session, std::uint64_t correlation);  // false: it does not wait here
  std::vector<PendingCreate> take_expired(wire::TimePoint now);
  std::optional<wire::TimePoint> next_deadline() const;  // O(n) of a queue that is short
  bool empty() const { return queue_.empty(); }
  std::size_t size() const { return queue_.size(); }
  std::uint64_t waiting_bytes() const;

 private:
  const std::size_t max_pending_;
  std::deque<PendingCreate> queue_;
};

}  // namespace aktis::plasma
