// Lost objects: who is told, and how a result is computed again (rules: core/lineage.h).
//
// Whoever misses an object in shared memory tells its owner: the owner itself by an event for the policy
// thread, a borrower by OBJECT_LOST. Waiters just go on waiting. The policy thread asks for reconstruct() and
// fails the object when that gives a reason why not.
#include <algorithm>

#include "core/core.h"

namespace aktis::core {

// ---- records ----

// The task is over: its record goes, unless a result could get lost and may be computed again.
void Core::retire(TaskRecord& task) {
  if (task.live_results == 0 || task.retries_left == 0) {
    if (task.live_results != 0) lineage_.decline(task, task.shape->num_returns);
    release_uses(task);
    tasks_.erase(task.id);
    return;
  }
  auto node = tasks_.extract(task.id);
  lineage_.keep(std::move(node.mapped()), [this](const ObjectId& use) {
    const ObjectEntry* known = find(use);
    return known != nullptr && known->state == ObjectState::kInline;
  });
  release_uses(task);
}

void Core::object_gone(const ObjectId& id) {
  if (const auto task = tasks_.find(id.task()); task != tasks_.end()) {
    task->second->result_gone(id.index());
  }
  lineage_.object_gone(id);
}

// Freed, but needed to compute another object again: a small value is nowhere else.
void Core::keep_value(const ObjectId& id) {
  const ObjectEntry* known = find(id);
  if (known == nullptr || known->state != ObjectState::kInline || known->is_error) return;
  lineage_.keep_value(id, known->value);
}

// ---- losing ----

// Tells the policy thread, once for each loss.
void Core::lose(const ObjectId& id, ObjectEntry& known, const std::string& reason) {
  if (std::exchange(known.lost, true)) return;
  events_.push({.kind = EventKind::kObjectLost, .first = id.binary(), .text = reason});
}

// Shared memory does not have what somebody here asked for.
void Core::missed_in_plasma(const ObjectId& id, ObjectEntry& known) {
  known.asked_store = false;
  if (known.owned) {
    lose(id, known, "gone from the object store");
    return;
  }
  const auto state = references_.counts(id).state;
  if (state == references::State::kOwnerDied || state == references::State::kLost) {
    const bool died = state == references::State::kOwnerDied;
    events_.push({.kind = EventKind::kObjectLost,
                  .first = id.binary(),
                  .text = died ? "owner died" : "freed by its owner"});
    return;
  }
  known.state = ObjectState::kPending;
  known.asked_owner = true;
  wire::ByteWriter out;
  encode_object_lost(out, {id, known.copy});
  send(known.owner, CoreFrame::kObjectLost, out.view());
}

bool Core::on_object_lost(const WorkerId& from, Bytes payload) {
  const auto message = decode_object_lost(payload);
  if (!message) return false;
  ObjectEntry* known = find(message->id);
  // Several borrowers may find the same loss, some of them after it has been made good.
  const bool present = known != nullptr && known->owned && known->exists() && !known->lost &&
                       known->state != ObjectState::kInline && message->copy >= known->copy;
  answer_when_there(message->id, known, from, present);
  if (present) lose(message->id, *known, "gone from the object store, as process " + from.hex() + " says");
  return true;
}

// ---- computing again ----

// An object of ours of which only the lineage was left exists again: with the value that was kept, or
// pending.
void Core::revive(const ObjectId& id) {
  ObjectEntry& known = entry(id);
  if (known.exists()) return;
  auto value = lineage_.take_value(id);
  if (!value) return;
  std::vector<ObjectId> inner = references_.formerly_contained(id);
  std::erase_if(inner, [this](const ObjectId& other) { return !references_.contains(other); });
  references_.set_contained(id, inner);
  known.size_bytes = value->view().size();
  known.value = std::move(value);
  known.state = ObjectState::kInline;
  complete(id, known);
}

// A freed object of ours, of which the lineage is left, has been sent back to us by somebody. What its value
// contains comes back with it.
void Core::come_back(const ObjectId& id) {
  std::vector<ObjectId> work = {id};
  while (!work.empty()) {
    const ObjectId next = work.back();
    work.pop_back();
    if (lineage_.has_value(next)) {
      for (const ObjectId& inner : references_.formerly_contained(next)) {
        if (references_.is_freed(inner)) work.push_back(inner);
      }
    }
    revive(next);
    ObjectEntry& known = entry(next);
    if (!known.exists() && !tasks_.contains(next.task())) lose(next, known, "freed by its owner");
  }
}

std::optional<std::string> Core::reconstruct(const ObjectId& id) {
  Guard guard(mutex_);
  const ObjectEntry* known = find(id);
  if (known != nullptr && !known->owned) return std::string{};
  if (known == nullptr || !known->lost) return std::nullopt;
  if (store_gone_) return "the object store of this node is gone, so that nothing could take its place";
  const Recovery recovery = lineage_.plan(
      id,
      [this](const TaskId& task) {
        const auto running = tasks_.find(task);  // one that streams does not send an item twice
        return running != tasks_.end() && !running->second->shape->streaming;
      },
      [&](const ActorId& actor) { return why_actor_cannot(actor, known->remote_waiting); });
  if (!recovery.problem.empty()) return recovery.problem;
  await_again(id, *find(id));
  for (const TaskId& task : recovery.tasks) {
    auto record = lineage_.take(task, [this](const ObjectId& use) { references_.add_task_use(use); });
    tasks_.emplace(task, std::move(record));
  }
  for (const ObjectId& argument : recovery.revived) revive(argument);
  for (const TaskId& task : recovery.tasks) run_again(*tasks_.at(task));
  settle_references();
  unlock_and_flush(guard);
  return std::nullopt;
}

// It runs its methods in order as far as we know: one that waits here for the object keeps it from making it.
std::string Core::why_actor_cannot(const ActorId& actor, const std::vector<WorkerId>& waiting) const {
  if (actor_calls_.state(actor) == ActorCalls::State::kDead) return "its actor is dead";
  const WorkerId worker = actor_calls_.worker_of(actor);
  if (std::find(waiting.begin(), waiting.end(), worker) == waiting.end()) return {};
  return "the actor that made it is waiting for it and cannot make it again";
}

void Core::await_again(const ObjectId& id, ObjectEntry& known) {
  if (known.state == ObjectState::kMapped) plasma_->unpin(id);
  known.state = ObjectState::kPending;
  known.mapped = {};
  known.asked_store = false;
  known.lost = false;
}

void Core::run_again(TaskRecord& task) {
  for (const Argument& argument : task.arguments) {
    ObjectEntry& known = entry(argument.ref.id);
    const WorkerId owner = references_.owner_of(argument.ref.id);
    known.owned = owner == config_.worker;
    if (!known.owned) known.owner = owner;
  }
  ++reconstructions_;
  task.may_have_stored = true;
  task.uses_held = true;
  task.cancel_requested = false;
  task.cancel_error = nullptr;
  in_flight_bytes_ += task.args->view().size();
  task.next_attempt();
  if (task.retries_left > 0) --task.retries_left;
  task.change(TaskState::kWaiting);
  start(task);
}

// A value that this process has mapped stays readable here: only those who asked for it get the error.
void Core::fail_object(const ObjectId& id, Bytes error_pickle) {
  auto error = OwnedValue::make(ValueKind::kError, error_pickle, {});
  Guard guard(mutex_);
  ObjectEntry* known = find(id);
  if (known != nullptr && known->lost && known->state == ObjectState::kMapped) {
    known->lost = false;
    for (const WorkerId& borrower : std::exchange(known->remote_waiting, {})) {
      send_value(id, error->view(), borrower);
    }
  } else {
    store_inline(id, std::move(error), true);
  }
  unlock_and_flush(guard);
}

}  // namespace aktis::core
