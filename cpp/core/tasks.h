// What an owner knows of one task that it submitted.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/messages.h"
#include "core/value.h"
#include "wire/ids.h"

namespace aktis::core {

using LeaseId = std::uint64_t;

// WAITING -> QUEUED -> PUSHED -> FINISHED, with PUSHED -> QUEUED (given back), PUSHED -> SUSPENDED (its
// worker is lost, or it failed and may be retried: Python decides) -> QUEUED | FINISHED, and FINISHED ->
// WAITING when a lost result is computed again. Any state -> FINISHED when it is cancelled or failed.
enum class TaskState : std::uint8_t { kWaiting, kQueued, kPushed, kSuspended, kFinished };
const char* to_string(TaskState state);
bool may_change(TaskState from, TaskState to);

struct Argument {
  std::uint16_t position = 0;
  std::string keyword;
  RefId ref;
};

// An attempt that raised an exception and may be repeated. Until that is decided its executor holds what the
// exception refers to, so that attempts which come to nothing leave nothing behind.
struct FailedAttempt {
  WorkerId executor;
  std::uint64_t hold = 0;
  std::vector<RefId> nested;
};

// Where a task's error comes from, if that may count what the error refers to: an object whose value it is,
// or an attempt that raised it.
struct ErrorOrigin {
  ObjectId object;
  const FailedAttempt* attempt = nullptr;
  std::string_view text = {};  // type and message, for the task events
};

struct TaskRecord {
  TaskId id;
  TaskId parent;
  std::shared_ptr<const TaskTemplate> shape;
  ActorId actor;  // nil for normal tasks
  TraceContext trace;
  std::vector<Argument> arguments;  // top-level references
  std::vector<ObjectId> uses;       // every reference in the arguments, for the reference table
  std::shared_ptr<const OwnedValue> args;
  std::uint32_t unresolved = 0;  // arguments whose value is not there yet
  std::size_t sent_bytes = 0;    // what its frame takes, more or less; known when its arguments are
  std::uint32_t attempt = 0;
  std::int32_t retries_left = 0;
  TaskState state = TaskState::kWaiting;
  LeaseId lease = 0;         // while pushed (normal tasks)
  std::uint64_t number = 0;  // its place among the calls of its actor
  WorkerId worker;           // while pushed
  std::int64_t submit_unix_ns = 0;
  bool cancel_requested = false;
  bool speculated = false;  // has, or had, or is, a second run beside the first one
  bool is_copy = false;     // the record of a run whose task goes on by another record (core_copies.cc)
  std::shared_ptr<const OwnedValue> cancel_error;  // what its returns become when the cancel succeeds
  std::unique_ptr<FailedAttempt> failed;
  // An attempt may have stored results in shared memory without a reply that says so: its worker is lost, or
  // it is the one whose results are made again.
  bool may_have_stored = false;
  std::vector<bool> in_store;      // by index: results in shared memory that somebody may still need
  std::uint32_t live_results = 0;  // how many of them
  bool uses_held = true;           // its uses are still counted

  std::size_t footprint_bytes() const { return sizeof(TaskRecord) + args->view().size(); }
  bool at_most_once() const { return shape->max_retries == 0; }
  // The next run gets a number that no earlier one had, also none that ran beside another.
  void next_attempt() { attempt += speculated ? 2 : 1; }
  // A result was put in shared memory, where it can be lost; or is not needed by anybody any more.
  void result_stored(std::uint32_t index);
  void result_gone(std::uint32_t index);
  void change(TaskState to);  // throws std::logic_error on a change that the table does not have
};

}  // namespace aktis::core
