// Cancelling: what the owner of a task does, and how others ask for it. The executor's part is in
// core_execute.cc.
#include <algorithm>

#include "core/core.h"

namespace aktis::core {

Core::Cancelled Core::cancel(const TaskId& id, bool recursive, Bytes error_pickle) {
  auto error = OwnedValue::make(ValueKind::kError, error_pickle, {});
  Guard guard(mutex_);
  const auto known = tasks_.find(id);
  if (known == tasks_.end() || known->second->state == TaskState::kFinished) return Cancelled::kUnknown;
  TaskRecord& task = *known->second;
  if (!task.cancel_requested) task.cancel_error = std::move(error);
  task.cancel_requested = true;
  if (TaskRecord* other = other_run(task)) call_off(*other, recursive);
  if (task.state == TaskState::kPushed) {
    wire::ByteWriter out;
    encode_cancel(out, id, recursive);
    send(task.worker, CoreFrame::kCancel, out.view());
    unlock_and_flush(guard);
    return Cancelled::kSent;
  }
  unlink_arguments(task);
  if (task.actor.is_nil()) {
    scheduling_.remove_queued(task);
  } else {
    actor_calls_.remove_queued(task);
  }
  finish_with_error(task, task.cancel_error);
  unlock_and_flush(guard);
  return Cancelled::kDone;
}

std::vector<std::pair<WorkerId, LeaseId>> Core::workers_of(const TaskId& id) {
  std::vector<std::pair<WorkerId, LeaseId>> places;
  Guard guard(mutex_);
  if (const auto known = tasks_.find(id); known != tasks_.end()) {
    const TaskRecord& task = *known->second;
    if (task.state == TaskState::kPushed) places.emplace_back(task.worker, task.lease);
  }
  if (const auto known = copies_.find(id); known != copies_.end()) {
    places.emplace_back(known->second->worker, known->second->lease);
  }
  return places;
}

std::vector<TaskId> Core::children_of(const TaskId& id) {
  Guard guard(mutex_);
  const auto known = children_.find(id);
  return known == children_.end() ? std::vector<TaskId>{} : known->second;
}

bool Core::ask_to_cancel(const ObjectId& object, bool force, bool recursive) {
  Guard guard(mutex_);
  const ObjectEntry* known = find(object);
  const WorkerId owner = references_.owner_of(object);
  if (known == nullptr || known->owned || owner.is_nil() || owner == config_.worker) return false;
  wire::ByteWriter out;
  encode_cancel_asked(out, {object, force, recursive});
  send(owner, CoreFrame::kCancelAsked, out.view());
  unlock_and_flush(guard);
  return true;
}

bool Core::on_cancel_asked(Bytes payload) {
  const auto message = decode_cancel_asked(payload);
  if (!message) return false;
  const ObjectEntry* known = find(message->id);
  if (known == nullptr || !known->owned || known->exists()) return true;
  events_.push({.kind = EventKind::kCancelAsked,
                .first = message->id.binary(),
                .number = message->recursive ? 1 : 0,
                .other = message->force ? 1 : 0});
  return true;
}

}  // namespace aktis::core
