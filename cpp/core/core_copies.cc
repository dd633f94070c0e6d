// Second runs of tasks (core/speculation.h): what becomes of a task that runs at two places.
//
// The task's own record stands for the run that counts; copies_ has a record for the other one.
// * The first result wins. The other run is told to end; its record stays until it is answered or its worker
//   is lost, because it occupies a lease and uses the arguments until then.
// * A run that fails, or whose worker is lost, while the other goes on is forgotten: it is no retry, and its
//   error is nobody's. The last one decides.
// * Neither executor removes what it has stored, because both store under the same ids: the owner does.
#include "core/core.h"

namespace aktis::core {

TaskRecord& Core::copy(TaskRecord& task) {
  auto record = std::make_unique<TaskRecord>();
  TaskRecord& made = *record;
  made.id = task.id;
  made.parent = task.parent;
  made.shape = task.shape;
  made.trace = task.trace;
  made.arguments = task.arguments;
  made.uses = task.uses;
  made.args = task.args;
  made.attempt = task.attempt + 1;
  made.submit_unix_ns = task.submit_unix_ns;
  made.speculated = task.speculated = true;
  made.is_copy = true;
  task.may_have_stored = true;
  for (const ObjectId& use : made.uses) references_.add_task_use(use);
  ++copies_started_;
  return *(copies_[task.id] = std::move(record));
}

// The other run of a task, if there is one that has not been told to end.
TaskRecord* Core::other_run(const TaskRecord& task) {
  if (!task.speculated) return nullptr;
  const auto known = copies_.find(task.id);
  return known == copies_.end() || known->second->cancel_requested ? nullptr : known->second.get();
}

// The task is decided: what else runs in its name shall end.
void Core::call_off(TaskRecord& copy, bool recursive) {
  copy.cancel_requested = true;
  copy.args = nullptr;
  copy.arguments = {};
  wire::ByteWriter out;
  encode_cancel(out, copy.id, recursive);
  send(copy.worker, CoreFrame::kCancel, out.view());
  report_called_off(copy, false);
}

// What hangs has lost for that reason: it would occupy its worker for ever if it did not listen either.
void Core::report_called_off(const TaskRecord& copy, bool lingers) {
  events_.push({.kind = EventKind::kRunCalledOff,
                .first = copy.id.binary(),
                .second = copy.worker.binary(),
                .number = static_cast<std::int64_t>(copy.lease),
                .other = lingers ? 1 : 0});
}

void Core::remind_of_called_off(const TaskId& id, std::chrono::milliseconds delay) {
  reactor_.call_after(delay, [this, id] {
    const Guard guard(mutex_);
    const auto known = copies_.find(id);
    if (known != copies_.end() && known->second->cancel_requested) report_called_off(*known->second, true);
  });
}

// It is answered, given back, or its worker is lost.
void Core::forget_copy(const TaskRecord& copy) {
  auto node = copies_.extract(copy.id);
  remove_unwanted(*node.mapped());
  release_uses(*node.mapped());
  settle_references();
}

// What a run has stored stays where it is, or may still become, a result.
void Core::remove_unwanted(const TaskRecord& task) {
  for (std::uint32_t i = 0; i < task.shape->num_returns; ++i) {
    const ObjectId id = ObjectId::of(task.id, i);
    const ObjectEntry* known = find(id);
    if (known == nullptr || known->state == ObjectState::kInline) to_remove_.push_back(id);
  }
}

// Whether a reply was that of a run that does not count; else the task's own record is as if that had run.
bool Core::settle_copy(const ReplyMessage& reply, const WorkerId& from) {
  const auto known = copies_.find(reply.id);
  if (known == copies_.end()) return false;
  TaskRecord& copy = *known->second;
  const auto sent = [&](const TaskRecord& run) {
    return run.state == TaskState::kPushed && run.worker == from && run.attempt == reply.attempt;
  };
  const bool from_copy = sent(copy);
  const bool called_off = copy.cancel_requested;
  if (!from_copy && called_off) return false;
  TaskRecord& task = from_copy && called_off ? copy : *tasks_.at(reply.id);
  if (!from_copy && !sent(task)) return false;
  if (reply.status == TaskStatus::kOk && !called_off) {
    if (from_copy) {
      ++copies_won_;
      take_over(task, copy);
    }
    return false;
  }
  // It failed while the other goes on, or comes too late.
  if (!from_copy) take_over(task, copy);
  TaskRecord& gone = copy;
  scheduling_.on_reply(gone, run_time_of(reply), wire::Clock::now());
  if (reply.hold != 0) references_.adopt_return(from, reply.hold, {});
  forget_copy(gone);
  return true;
}

// The run of a task that was sent to a worker, and is not answered.
TaskRecord* Core::pushed_to(const WorkerId& worker, const TaskId& id) {
  const auto is = [&](const TaskRecord& run) {
    return run.state == TaskState::kPushed && run.worker == worker;
  };
  if (const auto task = tasks_.find(id); task != tasks_.end() && is(*task->second)) return task->second.get();
  const auto copy = copies_.find(id);
  return copy != copies_.end() && is(*copy->second) ? copy->second.get() : nullptr;
}

// The task goes on as its other run.
void Core::take_over(TaskRecord& task, TaskRecord& copy) {
  if (task.state == TaskState::kQueued) {  // given back, while the other run went on
    scheduling_.remove_queued(task);
    task.change(TaskState::kPushed);
  }
  scheduling_.exchange(task, copy);
}

// The worker of one of two runs is lost: true when the other goes on.
bool Core::lose_run(TaskRecord& run) {
  if (run.is_copy) {
    forget_copy(run);
    return true;
  }
  TaskRecord* copy = other_run(run);
  if (copy == nullptr) return false;
  scheduling_.exchange(run, *copy);
  forget_copy(*copy);
  return true;
}

}  // namespace aktis::core
