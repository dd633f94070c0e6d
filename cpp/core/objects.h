// What a process knows of one object: its own or a borrowed one.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/tasks.h"
#include "core/value.h"
#include "wire/baton.h"
#include "wire/ids.h"

namespace aktis::core {

// A thread that waits for objects. `remaining` counts down to zero, which completes the waiter. Lives on the
// stack of the waiting thread; guarded by the core's mutex.
struct WaitGroup {
  wire::Waiter waiter;
  std::size_t remaining = 0;
  bool values = false;  // a get: wants the bytes here, not only to know that they exist
};

// PENDING: being computed, or its owner has not answered yet. INLINE: the bytes are in this process.
// PLASMA: in the node's shared memory, not mapped here. MAPPED: mapped and pinned by this entry.
enum class ObjectState : std::uint8_t { kPending, kInline, kPlasma, kMapped };

struct ObjectEntry {
  ObjectState state = ObjectState::kPending;
  bool owned = true;
  bool asked_owner = false;    // an OBJECT_GET is under way
  bool asked_store = false;    // a request to the store is under way
  bool watched = false;        // Python is to be told when it exists
  bool watched_value = false;  // the same when its value is here
  bool watch_free = false;
  bool is_error = false;
  bool freed = false;  // its value was dropped by free(): it holds ObjectFreedError
  bool lost = false;   // owned, gone from shared memory, and the policy thread has been told
  // Which copy lies in shared memory, or will: the attempt of the task that made it. A report that another
  // copy is lost is out of date.
  std::uint32_t copy = 0;
  std::uint64_t size_bytes = 0;
  std::shared_ptr<const OwnedValue> value;  // kInline
  Bytes mapped;                             // kMapped
  WorkerId owner;
  NodeId node;
  std::vector<WaitGroup*> waiting;
  std::vector<TaskRecord*> dependents;  // tasks that have it as an argument and are not resolved yet
  std::vector<WorkerId> remote_waiting;

  bool exists() const { return state != ObjectState::kPending; }
  bool readable() const { return state == ObjectState::kInline || state == ObjectState::kMapped; }
};

}  // namespace aktis::core
