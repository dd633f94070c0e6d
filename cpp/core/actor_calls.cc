#include "core/actor_calls.h"

namespace aktis::core {

std::shared_ptr<const OwnedValue> ActorCalls::submit(TaskRecord& task) {
  Actor& actor = actors_[task.actor];
  if (actor.state == State::kDead) return actor.error;
  if (task.attempt == 0) task.number = actor.next_number++;
  if (task.unresolved == 0) task.change(TaskState::kQueued);
  actor.queue.emplace_hint(actor.queue.end(), task.number, &task);
  dispatch(actor);
  return nullptr;
}

void ActorCalls::argument_ready(TaskRecord& task) {
  task.change(TaskState::kQueued);
  dispatch(actors_[task.actor]);
}

void ActorCalls::again(TaskRecord& task) {
  Actor& actor = actors_[task.actor];
  task.change(TaskState::kQueued);
  actor.queue.emplace(task.number, &task);
  dispatch(actor);
}

void ActorCalls::connect(const ActorId& id, const WorkerId& worker) {
  Actor& actor = actors_[id];
  if (actor.state == State::kDead) return;
  actor.state = State::kConnected;
  actor.worker = worker;
  dispatch(actor);
}

void ActorCalls::pause(const ActorId& id) {
  Actor& actor = actors_[id];
  if (actor.state != State::kDead) actor.state = State::kPending;
}

std::vector<TaskRecord*> ActorCalls::fail(const ActorId& id, std::shared_ptr<const OwnedValue> error) {
  Actor& actor = actors_[id];
  std::vector<TaskRecord*> failed;
  for (auto& [number, task] : actor.in_flight) failed.push_back(task);
  for (auto& [number, task] : actor.queue) failed.push_back(task);
  in_flight_ -= actor.in_flight.size();
  actor.in_flight.clear();
  actor.in_flight_bytes = 0;
  actor.queue.clear();
  actor.state = State::kDead;
  actor.error = std::move(error);
  return failed;
}

void ActorCalls::on_reply(TaskRecord& task) {
  Actor& actor = actors_[task.actor];
  if (actor.in_flight.erase(task.number) != 0) {
    --in_flight_;
    actor.in_flight_bytes -= task.sent_bytes;
  }
  dispatch(actor);
}

std::vector<ActorId> ActorCalls::on_worker_lost(const WorkerId& worker, const std::string& reason) {
  std::vector<ActorId> lost;
  for (auto& [id, actor] : actors_) {
    if (actor.worker != worker || actor.worker.is_nil()) continue;
    lost.push_back(id);
    if (actor.state == State::kConnected) actor.state = State::kPending;
    actor.worker = WorkerId{};
    auto in_flight = std::move(actor.in_flight);
    actor.in_flight.clear();
    actor.in_flight_bytes = 0;
    in_flight_ -= in_flight.size();
    for (auto& [number, task] : in_flight) outlet_.call_lost(*task, reason);
  }
  return lost;
}

bool ActorCalls::remove_queued(TaskRecord& task) {
  Actor& actor = actors_[task.actor];
  const auto found = actor.queue.find(task.number);
  if (found == actor.queue.end() || found->second != &task) return false;
  actor.queue.erase(found);
  dispatch(actor);
  return true;
}

void ActorCalls::set_options(const ActorId& id, bool out_of_order) {
  actors_[id].out_of_order = out_of_order;
}

std::size_t ActorCalls::pending_calls(const ActorId& id) const {
  const auto found = actors_.find(id);
  return found == actors_.end() ? 0 : found->second.queue.size() + found->second.in_flight.size();
}

ActorCalls::State ActorCalls::state(const ActorId& id) const {
  const auto found = actors_.find(id);
  return found == actors_.end() ? State::kPending : found->second.state;
}

WorkerId ActorCalls::worker_of(const ActorId& id) const {
  const auto found = actors_.find(id);
  return found == actors_.end() ? WorkerId{} : found->second.worker;
}

bool ActorCalls::has_room(const Actor& actor, const TaskRecord& next) const {
  if (actor.in_flight.empty()) return true;
  return actor.in_flight.size() < window_.calls && actor.in_flight_bytes + next.sent_bytes <= window_.bytes;
}

void ActorCalls::dispatch(Actor& actor) {
  if (actor.state != State::kConnected) return;
  for (auto next = actor.queue.begin(); next != actor.queue.end() && has_room(actor, *next->second);) {
    TaskRecord& task = *next->second;
    if (task.state != TaskState::kQueued) {
      if (!actor.out_of_order) break;  // its arguments are not there: what comes after it waits
      ++next;
      continue;
    }
    next = actor.queue.erase(next);
    task.change(TaskState::kPushed);
    task.worker = actor.worker;
    actor.in_flight.emplace_hint(actor.in_flight.end(), task.number, &task);
    ++in_flight_;
    actor.in_flight_bytes += task.sent_bytes;
    outlet_.push_call(actor.worker, task, actor.in_flight.size() == 1);
  }
}

}  // namespace aktis::core
