// What the core tells Python's policy thread: a queue drained in batches.
//
// Its length is bounded by what it reports on: tasks in flight, leases, watched objects and control messages,
// each of which is limited where it is made.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "wire/baton.h"

namespace aktis::core {

enum class EventKind : int {
  kControl = 1,
  kNeedLeases = 2,
  kLeaseIdle = 3,
  kLeaseBroken = 4,
  kTaskLost = 5,
  kTaskError = 6,
  kObjectReady = 7,
  kObjectFreed = 8,
  kObjectLost = 9,
  kActorLost = 10,
  kCancel = 11,
  kRayletLost = 12,
  kPlasmaLost = 13,
};

// The fields that a kind uses, in the order in which Python gets them, are in the table of
// bindings/events.cc.
struct Event {
  EventKind kind;
  std::string first;   // an id or a message
  std::string second;  // another id
  std::string third;
  std::string text;  // a reason for people
  std::int64_t number = 0;
  std::int64_t other = 0;
  std::uint64_t key = 0;  // a scheduling class; which errors may be retried
};

class EventQueue {
 public:
  void push(Event event) {
    std::lock_guard guard(mutex_);
    events_.push_back(std::move(event));
    waiter_.complete();
  }
  // Wakes the policy thread although nothing happened in C++ (an event of Python's own).
  void wake() { waiter_.complete(); }
  std::vector<Event> take() {
    std::lock_guard guard(mutex_);
    waiter_.reset();
    return std::exchange(events_, {});
  }
  bool empty() const {
    std::lock_guard guard(mutex_);
    return events_.empty();
  }
  wire::Waiter& waiter() { return waiter_; }

 private:
  mutable std::mutex mutex_;
  std::vector<Event> events_;
  wire::Waiter waiter_;
};

}  // namespace aktis::core
