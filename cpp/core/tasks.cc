#include "core/tasks.h"

#include <stdexcept>

namespace aktis::core {

const char* to_string(TaskState state) {
  switch (state) {
    case TaskState::kWaiting:
      return "waiting";
    case TaskState::kQueued:
      return "queued";
    case TaskState::kPushed:
      return "pushed";
    case TaskState::kSuspended:
      return "suspended";
    case TaskState::kFinished:
      return "finished";
  }
  return "unknown";
}

bool may_change(TaskState from, TaskState to) {
  switch (from) {
    case TaskState::kWaiting:
      return to == TaskState::kQueued || to == TaskState::kFinished;
    case TaskState::kQueued:
      return to == TaskState::kPushed || to == TaskState::kFinished || to == TaskState::kSuspended;
    case TaskState::kPushed:
      return to != TaskState::kWaiting && to != TaskState::kPushed;
    case TaskState::kSuspended:
      return to == TaskState::kQueued || to == TaskState::kFinished;
    case TaskState::kFinished:
      return to == TaskState::kWaiting;
  }
  return false;
}

void TaskRecord::change(TaskState to) {
  if (!may_change(state, to)) {
    throw std::logic_error("task " + id.hex() + " cannot go from " + to_string(state) + " to " +
                           to_string(to));
  }
  state = to;
}

void TaskRecord::result_stored(std::uint32_t index) {
  if (in_store.empty()) in_store.resize(shape->num_returns);
  if (index >= in_store.size() || in_store[index]) return;
  in_store[index] = true;
  ++live_results;
}

void TaskRecord::result_gone(std::uint32_t index) {
  if (index >= in_store.size() || !in_store[index]) return;
  in_store[index] = false;
  --live_results;
}

}  // namespace aktis::core
