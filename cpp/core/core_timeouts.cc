// Tasks that run for longer than their timeout. The executor measures, because only it knows when a task
// began; the owner decides, because only it can end a process that does not listen any more.
#include <algorithm>

#include "core/core.h"

namespace aktis::core {

// ---- the executor ----

// One timer for all: tasks that end in time, which is nearly all of them, cost none.
void Core::watch_time(IncomingTask& task) {
  const auto timeout = std::chrono::milliseconds(task.message.timeout_ms);
  task.due = wire::Clock::now() + timeout;
  if (task.due < next_due_) look_again_at(task.due);
}

void Core::look_again_at(wire::TimePoint due) {
  next_due_ = due;
  const auto delay = std::chrono::ceil<std::chrono::milliseconds>(due - wire::Clock::now());
  reactor_.call_after(delay, [this, due] {
    Guard guard(mutex_);
    if (due != next_due_) return;  // there is an earlier one, or was one at the same time
    look_for_overdue();
    unlock_and_flush(guard);
  });
}

void Core::look_for_overdue() {
  const auto now = wire::Clock::now();
  auto next = wire::TimePoint::max();
  for (const auto& [id, task] : running_) {
    if (task->due > now) {
      next = std::min(next, task->due);
      continue;
    }
    task->due = wire::TimePoint::max();
    wire::ByteWriter out;
    encode_overdue(out, {id, task->message.attempt});
    queue(task->connection, CoreFrame::kOverdue, {out.view()}, true);
  }
  next_due_ = next;
  if (next != wire::TimePoint::max()) look_again_at(next);
}

// ---- the owner ----

bool Core::on_overdue(const WorkerId& from, Bytes payload) {
  const auto message = decode_overdue(payload);
  if (!message) return false;
  const auto known = tasks_.find(message->task);
  if (known == tasks_.end()) return true;
  const TaskRecord& task = *known->second;
  const bool current =
      task.state == TaskState::kPushed && task.worker == from && task.attempt == message->attempt;
  if (current) report_overdue(task, false);
  return true;
}

void Core::report_overdue(const TaskRecord& task, bool again) {
  events_.push({.kind = EventKind::kTaskOverdue,
                .first = task.id.binary(),
                .text = task.shape->name,
                .number = task.shape->timeout_ms,
                .other = again ? 1 : 0});
}

bool Core::remind(const TaskId& id, std::chrono::milliseconds delay) {
  Guard guard(mutex_);
  const auto known = tasks_.find(id);
  if (known == tasks_.end() || known->second->state != TaskState::kPushed) return false;
  reactor_.call_after(delay, [this, id, attempt = known->second->attempt] {
    const Guard guard(mutex_);
    const auto task = tasks_.find(id);
    if (task == tasks_.end() || task->second->state != TaskState::kPushed) return;
    if (task->second->attempt == attempt) report_overdue(*task->second, true);
  });
  return true;
}

}  // namespace aktis::core
