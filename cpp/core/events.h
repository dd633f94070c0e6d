// What the core tells Python's policy thread: a queue drained in batches.
//
// Its length is bounded, although Python may be held up (by the GIL, or by a machine that is overloaded):
// * What supersedes what was said before takes its place: wishes for leases by class, requests
// to
//   cancel by task, lost objects.
// * Control messages count by their bytes; beyond a limit push() refuses, and the raylet, which would go on
// for
//   ever, is hung up on.
// * The others come once for each thing that they are about, which is counted and bounded where it is made: a
//   task that waits for a decision, a lease, a connection, a watched object.
//
// That a lease went back wakes nobody: it is heard of with what comes next, a grant at the latest.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "wire/baton.h"

namespace aktis::core {

enum class EventKind : int {
  kControl = 1,
  kNeedLeases = 2,
  kLeaseReturned = 3,
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
  kTaskOverdue = 14,
  kCancelAsked = 15,
  kRunCalledOff = 16,
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
  std::int32_t priority = 0;
};

// Any thread.
class EventQueue {
 public:
  explicit EventQueue(std::size_t control_limit_bytes) : control_limit_bytes_(control_limit_bytes) {}

  void set_control_limit(std::size_t bytes);
  // False: it is a control message for which there is no room, and was not queued.
  bool push(Event event);
  // Wakes the policy thread although nothing happened in C++ (an event of Python's own).
  void wake() { waiter_.complete(); }
  std::vector<Event> take();
  bool empty() const { return size() == 0; }
  std::size_t size() const;
  std::size_t control_bytes() const;
  wire::Waiter& waiter() { return waiter_; }

 private:
  mutable std::mutex mutex_;
  std::size_t control_limit_bytes_;
  std::size_t control_bytes_ = 0;
  std::vector<Event> events_;
  // Where the event is that a later one of the same kind and about the same thing supersedes.
  std::unordered_map<std::string, std::size_t> superseded_;
  wire::Waiter waiter_;
};

}  // namespace aktis::core
