// The owner's side of tasks: from submission to the results.
#include <algorithm>
#include <ctime>

#include "core/core.h"

namespace aktis::core {
namespace {

std::int64_t unix_ns() {
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<std::int64_t>(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
}

constexpr std::chrono::milliseconds kTick{10};
// Of the values that travel inside one task; it has to fit into a frame.
constexpr std::size_t kMaxInlineBytes = 16u << 20;
// The same for the constructor of an actor, which the GCS stores.
constexpr std::size_t kMaxCreationBytes = 256u << 10;

// Of tasks that end before they begin, for the task events; the error itself is with what failed first.
constexpr std::string_view kArgumentFailed = "DependencyError: an argument is the error of another task";
constexpr std::string_view kActorDead = "ActorDiedError: the actor was dead already";

std::string pickle_of(const OwnedValue& value) {
  const auto view = parse_value(value.view());
  return view ? std::string(reinterpret_cast<const char*>(view->inband.data()), view->inband.size())
              : std::string{};
}

}  // namespace

std::vector<ObjectId> Core::submit(Submission submission) {
  auto record = std::make_unique<TaskRecord>();
  TaskRecord& task = *record;
  task.id = next_task_id(!submission.actor.is_nil());
  task.parent = submission.parent;
  task.shape = std::move(submission.shape);
  task.actor = submission.actor;
  task.trace = submission.trace;
  task.args = std::move(submission.args);
  task.retries_left = task.shape->max_retries;
  task.submit_unix_ns = unix_ns();
  task.uses = std::move(submission.nested);
  for (const Argument& argument : submission.arguments) task.uses.push_back(argument.ref.id);
  task.arguments = std::move(submission.arguments);
  in_flight_bytes_ += task.args->view().size();

  std::vector<ObjectId> returns;
  returns.reserve(task.shape->num_returns);
  Guard guard(mutex_);
  drain_drops();
  for (std::uint32_t i = 0; i < task.shape->num_returns; ++i) {
    returns.push_back(ObjectId::of(task.id, i));
    references_.add_owned(returns.back(), 1);
    entry(returns.back());
  }
  for (const ObjectId& use : task.uses) references_.add_task_use(use);
  if (!task.parent.is_nil()) children_[task.parent].push_back(task.id);
  if (task.shape->streaming) streams_.emplace(task.id, Stream(task.shape->stream_limit));
  tasks_.emplace(task.id, std::move(record));
  start(task);
  unlock_and_flush(guard);
  return returns;
}

// Counts what is not there yet of the arguments; queues the task when nothing is missing.
void Core::start(TaskRecord& task) {
  task.unresolved = 0;
  for (const Argument& argument : task.arguments) {
    ObjectEntry& known = entry(argument.ref.id);
    if (known.exists()) {
      if (!known.is_error) continue;
      const auto error = known.value;
      unlink_arguments(task);
      finish_with_error(task, error,
                        {.object = argument.ref.id, .attempt = nullptr, .text = kArgumentFailed});
      return;
    }
    ++task.unresolved;
    known.dependents.push_back(&task);
    let_stream_end(argument.ref.id);
    fetch(argument.ref.id, known);
  }
  if (task.unresolved == 0) measure(task);
  if (!task.actor.is_nil()) {
    if (const auto dead = actor_calls_.submit(task)) {
      unlink_arguments(task);
      finish_with_error(task, dead, {.text = kActorDead});
    }
  } else if (task.unresolved == 0) {
    scheduling_.enqueue(task, wire::Clock::now());
    arm_tick();
  }
}

void Core::measure(TaskRecord& task) {
  task.sent_bytes = task.args->view().size();
  for (const Argument& argument : task.arguments) {
    const ObjectEntry* known = find(argument.ref.id);
    if (known != nullptr && known->value) task.sent_bytes += known->value->view().size();
  }
}

void Core::argument_there(TaskRecord& task) {
  if (task.state != TaskState::kWaiting) return;
  for (const Argument& argument : task.arguments) {
    const ObjectEntry* known = find(argument.ref.id);
    if (known == nullptr || !known->exists() || !known->is_error) continue;
    const auto error = known->value;
    if (!task.actor.is_nil()) actor_calls_.remove_queued(task);
    unlink_arguments(task);
    finish_with_error(task, error, {.object = argument.ref.id, .attempt = nullptr, .text = kArgumentFailed});
    return;
  }
  if (--task.unresolved > 0) return;
  measure(task);
  if (task.actor.is_nil()) {
    scheduling_.enqueue(task, wire::Clock::now());
    arm_tick();
  } else {
    actor_calls_.argument_ready(task);
  }
}

// Takes a waiting task off the lists of the objects that it waits for.
void Core::unlink_arguments(TaskRecord& task) {
  for (const Argument& argument : task.arguments) {
    if (ObjectEntry* known = find(argument.ref.id)) {
      auto& dependents = known->dependents;
      dependents.erase(std::remove(dependents.begin(), dependents.end(), &task), dependents.end());
    }
  }
}

// ---- pushing ----

void Core::encode_arguments(wire::ByteWriter& out, std::span<const Argument> arguments,
                            std::size_t max_inline_bytes) {
  out.u32(static_cast<std::uint32_t>(arguments.size()));
  std::size_t inline_bytes = 0;
  for (const Argument& argument : arguments) {
    const ObjectEntry& known = entry(argument.ref.id);
    if (known.state == ObjectState::kInline) {
      inline_bytes += known.value->view().size();
      if (inline_bytes > max_inline_bytes) {
        encode_argument(out, argument.position, argument.keyword, argument.ref);
      } else {
        encode_argument(out, argument.position, argument.keyword, argument.ref, known.value->view());
      }
    } else {
      encode_argument(out, argument.position, argument.keyword, argument.ref, known.copy);
    }
  }
}

void Core::send_task(const WorkerId& worker, const TaskRecord& task, bool urgent) {
  wire::ByteWriter head, arguments;
  encode_task_head(head, task.id, task.parent, job_, task.actor, task.attempt, task.trace);
  encode_arguments(arguments, task.arguments, kMaxInlineBytes);
  arguments.u32(static_cast<std::uint32_t>(task.args->view().size()));
  queue(peer(worker), CoreFrame::kTask,
        {head.view(), task.shape->encoded, arguments.view(), task.args->view()}, urgent);
}

std::optional<std::vector<std::byte>> Core::encode_creation(const Submission& submission,
                                                            const TaskId& task) {
  wire::ByteWriter out;
  Guard guard(mutex_);
  for (const Argument& argument : submission.arguments) {
    if (!entry(argument.ref.id).exists()) return std::nullopt;
  }
  encode_task_head(out, task, submission.parent, job_, submission.actor, 0, submission.trace);
  out.raw(submission.shape->encoded.data(), submission.shape->encoded.size());
  encode_arguments(out, submission.arguments, kMaxCreationBytes);
  out.blob(submission.args->view());
  return out.take();
}

void Core::push(Lease& lease, TaskRecord& task) {
  send_task(lease.worker, task, lease.in_flight.size() == 1);
}
void Core::push_call(const WorkerId& worker, TaskRecord& task, bool idle) { send_task(worker, task, idle); }

void Core::steal(Lease& victim, std::uint32_t count) {
  wire::ByteWriter out;
  encode_steal(out, count);
  send(victim.worker, CoreFrame::kSteal, out.view());
}

void Core::need_leases(std::uint64_t class_key, const LeaseWish& wish) {
  Event event{.kind = EventKind::kNeedLeases,
              .number = wish.wanted,
              .other = static_cast<std::int64_t>(wish.backlog)};
  event.key = class_key;
  event.priority = wish.priority;
  events_.push(std::move(event));
}

// At once, by the thread that found it idle: others wait for its worker. Python need not hurry to hear of it.
void Core::return_lease(LeaseId lease) {
  if (raylet_) queue(raylet_, wire::FrameType::kControl, {encode_return_lease(lease)}, true);
  events_.push({.kind = EventKind::kLeaseReturned, .number = static_cast<std::int64_t>(lease)});
}

void Core::task_lost(TaskRecord& task, const std::string& reason) {
  if (!task.speculated || !lose_run(task)) set_suspended(task, reason);
}
void Core::call_lost(TaskRecord& task, const std::string& reason) { set_suspended(task, reason); }

void Core::set_suspended(TaskRecord& task, const std::string& reason) {
  task.change(TaskState::kSuspended);
  task.may_have_stored = true;
  if (task.cancel_requested) {
    finish_with_error(task, task.cancel_error);
    return;
  }
  events_.push({.kind = EventKind::kTaskLost,
                .first = task.id.binary(),
                .second = task.worker.binary(),
                .third = task.actor.is_nil() ? std::string{} : task.actor.binary(),
                .text = reason,
                .number = task.retries_left});
  // When it is given up the error says more; else this is all that is ever told of the attempt.
  if (task.retries_left == 0) return;
  const char* error = task.actor.is_nil() ? "WorkerCrashedError: " : "ActorUnavailableError: ";
  task_events_record(task, TaskEvents::kFailed, error + reason);
}

// ---- results ----

bool Core::on_reply(const WorkerId& from, Bytes payload) {
  const auto reply = decode_reply(payload);
  if (!reply) return false;
  if (!copies_.empty() && settle_copy(*reply, from)) return true;
  const auto known = tasks_.find(reply->id);
  if (known == tasks_.end() || known->second->state != TaskState::kPushed || known->second->worker != from ||
      known->second->attempt != reply->attempt) {
    // An answer that nobody waits for (cancelled, retried elsewhere): only its references must be let go.
    if (reply->hold != 0) references_.adopt_return(from, reply->hold, {});
    settle_references();
    return true;
  }
  TaskRecord& task = *known->second;
  if (!answers(*reply, task.shape->num_returns)) return false;
  const auto now = wire::Clock::now();
  if (task.actor.is_nil()) {
    scheduling_.on_reply(task, run_time_of(*reply), now);
  } else {
    actor_calls_.on_reply(task);
  }
  if (reply->status == TaskStatus::kOk) {
    store_returns(task, *reply, from);
    if (task.speculated) remove_unwanted(task);
    end_task(task);
    return true;
  }
  task.may_have_stored |= task.shape->speculative != 0;
  std::shared_ptr<const OwnedValue> error;
  FailedAttempt attempt{from, reply->hold, {}};
  if (reply->status == TaskStatus::kCancelled && task.cancel_error) {
    error = task.cancel_error;
  } else if (!reply->returns.empty() && !reply->returns[0].in_plasma) {
    error = OwnedValue::copy_of(reply->returns[0].value);
    attempt.nested = reply->returns[0].nested;
  } else {
    error = OwnedValue::make(ValueKind::kError, {}, {});
  }
  if (task.shape->retry_on_error && reply->status == TaskStatus::kError && !task.cancel_requested) {
    task.failed = std::make_unique<FailedAttempt>(std::move(attempt));
    task.change(TaskState::kSuspended);
    events_.push({.kind = EventKind::kTaskError,
                  .first = task.id.binary(),
                  .second = pickle_of(*error),
                  .number = task.retries_left,
                  .key = task.shape->retry_key});
    settle_references();
    return true;
  }
  finish_with_error(task, std::move(error), {.object = {}, .attempt = &attempt});
  return true;
}

// The one error becomes the value of every return and the last item of a stream, so that each of them
// contains what it refers to.
void Core::contain_error(const TaskRecord& task, const std::optional<ObjectId>& last_item,
                         const ErrorOrigin& origin) {
  std::vector<ObjectId> outers;
  for (std::uint32_t i = 0; i < task.shape->num_returns; ++i) outers.push_back(ObjectId::of(task.id, i));
  if (last_item) outers.push_back(*last_item);
  if (origin.attempt != nullptr) adopt_error(*origin.attempt, outers);
  if (origin.object.is_nil()) return;
  for (const ObjectId& outer : outers) references_.take_contents(outer, origin.object);
}

void Core::adopt_error(const FailedAttempt& attempt, std::span<const ObjectId> outers) {
  if (attempt.hold == 0) return;
  std::vector<ReturnedRef> nested;
  for (const ObjectId& outer : outers) {
    for (const RefId& ref : attempt.nested) nested.push_back({outer, ref.id, ref.owner});
  }
  references_.adopt_return(attempt.executor, attempt.hold, nested);
}

// The exception of an attempt that failed does not become the result.
void Core::forget_failed(TaskRecord& task) {
  if (const auto attempt = std::move(task.failed)) adopt_error(*attempt, {});
}

void Core::store_returns(TaskRecord& task, const ReplyMessage& reply, const WorkerId& from) {
  std::vector<ReturnedRef> nested;
  for (std::uint32_t i = 0; i < reply.returns.size(); ++i) {
    for (const RefId& ref : reply.returns[i].nested)
      nested.push_back({ObjectId::of(task.id, i), ref.id, ref.owner});
  }
  if (reply.hold != 0) references_.adopt_return(from, reply.hold, nested);
  for (std::uint32_t i = 0; i < reply.returns.size(); ++i) {
    const ReturnMessage& value = reply.returns[i];
    const ObjectId id = ObjectId::of(task.id, i);
    if (value.in_plasma) {
      store_plasma(id, value.size_bytes, task.attempt);
      // A freed one counts as well while it is somebody's lineage.
      if (references_.is_owned(id)) task.result_stored(i);
    } else if (find(id) != nullptr) {
      store_inline(id, OwnedValue::copy_of(value.value), false);
    }
  }
}

void Core::fail_returns(TaskRecord& task, std::shared_ptr<const OwnedValue> error) {
  for (std::uint32_t i = 0; i < task.shape->num_returns; ++i) {
    const ObjectId id = ObjectId::of(task.id, i);
    // When the task ran again for another result, this one may never have been lost.
    if (const ObjectEntry* known = find(id); known != nullptr && known->exists()) continue;
    if (task.may_have_stored) to_remove_.push_back(id);
    store_inline(id, error, true);
  }
}

void Core::finish_with_error(TaskRecord& task, std::shared_ptr<const OwnedValue> error,
                             const ErrorOrigin& origin) {
  // Marked first: failing the returns may fail tasks that depend on them, which must not find this one open.
  const bool cancelled = task.cancel_requested && error == task.cancel_error;
  task_events_record(task, cancelled ? TaskEvents::kCancelled : TaskEvents::kFailed, origin.text);
  const auto last_item = error_item(task);
  contain_error(task, last_item, origin);
  if (last_item) store_inline(*last_item, error, true);
  fail_returns(task, std::move(error));
  end_task(task);
}

void Core::task_events_record(const TaskRecord& task, int state, std::string_view error) {
  const TaskEvent event{.task = task.id,
                        .parent = task.parent,
                        .actor = task.actor,
                        .name = task.shape->name,
                        .state = state,
                        .start_unix_ns = task.submit_unix_ns,
                        .end_unix_ns = unix_ns(),
                        .attempt = task.attempt,
                        .error = error,
                        .by_owner = true};
  if (task_events_.record(event, event.end_unix_ns)) arm_event_flush();
}

// The task is over, however it ended.
void Core::end_task(TaskRecord& task) {
  task.change(TaskState::kFinished);
  forget_failed(task);
  if (TaskRecord* other = other_run(task)) call_off(*other, true);
  const std::size_t bytes = task.args->view().size();
  const bool was_full = !has_room();
  in_flight_bytes_ -= bytes;
  if (was_full && has_room()) {
    for (wire::Waiter* waiter : room_waiters_) waiter->complete();
  }
  end_stream(task);
  if (!task.parent.is_nil()) {
    if (const auto siblings = children_.find(task.parent); siblings != children_.end()) {
      auto& ids = siblings->second;
      ids.erase(std::remove(ids.begin(), ids.end(), task.id), ids.end());
      if (ids.empty()) children_.erase(siblings);
    }
  }
  retire(task);
  settle_references();
}

void Core::release_uses(TaskRecord& task) {
  if (!std::exchange(task.uses_held, false)) return;
  references_.remove_task_use(task.uses);
}

bool Core::on_give_back(const WorkerId& from, Bytes payload) {
  const auto message = decode_give_back(payload);
  if (!message) return false;
  std::vector<TaskRecord*> tasks;
  LeaseId lease = 0;
  for (const TaskId& id : message->tasks) {
    TaskRecord* task = pushed_to(from, id);
    if (task == nullptr) continue;
    tasks.push_back(task);
    lease = task->lease;
  }
  if (lease == 0) {
    const Lease* held = scheduling_.find_worker(from);
    if (held == nullptr) return true;
    lease = held->id;
  }
  for (TaskRecord* task : scheduling_.on_give_back(lease, message->reason, tasks, wire::Clock::now())) {
    if (task->is_copy) {
      forget_copy(*task);
    } else {
      finish_with_error(*task, task->cancel_error);
    }
  }
  return true;
}

// ---- verbs of the policy thread ----

void Core::add_lease(std::uint64_t class_key, LeaseId lease, const WorkerId& worker,
                     const std::string& address) {
  Guard guard(mutex_);
  peer(worker, address);
  scheduling_.add_lease(class_key, lease, worker, wire::Clock::now());
  arm_tick();
  unlock_and_flush(guard);
}

bool Core::drop_lease(LeaseId lease) {
  Guard guard(mutex_);
  return scheduling_.drop_lease(lease);
}

std::vector<LeaseId> Core::reclaim_leases(std::uint32_t excess) {
  Guard guard(mutex_);
  auto idle = scheduling_.reclaim(excess);
  unlock_and_flush(guard);
  return idle;
}

void Core::break_lease(LeaseId lease, const std::string& reason) {
  Guard guard(mutex_);
  scheduling_.on_lease_broken(lease, reason, wire::Clock::now());
  unlock_and_flush(guard);
}

std::size_t Core::fail_class(std::uint64_t class_key, Bytes error_pickle, std::string_view text) {
  const auto error = OwnedValue::make(ValueKind::kError, error_pickle, {});
  Guard guard(mutex_);
  const auto tasks = scheduling_.queued(class_key);
  for (TaskRecord* task : tasks) {
    scheduling_.remove_queued(*task);
    finish_with_error(*task, error, {.text = text});
  }
  unlock_and_flush(guard);
  return tasks.size();
}

void Core::set_infeasible(std::uint64_t class_key, bool infeasible) {
  Guard guard(mutex_);
  scheduling_.set_infeasible(class_key, infeasible);
}

void Core::end_class(std::uint64_t class_key) {
  Guard guard(mutex_);
  scheduling_.end_class(class_key);
}

bool Core::resubmit(const TaskId& id, std::chrono::milliseconds delay) {
  Guard guard(mutex_);
  const auto known = tasks_.find(id);
  if (known == tasks_.end() || known->second->state != TaskState::kSuspended) return false;
  forget_failed(*known->second);
  settle_references();
  if (delay.count() > 0) {
    unlock_and_flush(guard);
    reactor_.call_after(delay, [this, id] { resubmit(id, std::chrono::milliseconds(0)); });
    return true;
  }
  TaskRecord& task = *known->second;
  if (task.cancel_requested) {
    finish_with_error(task, task.cancel_error);
  } else {
    task.next_attempt();
    if (task.retries_left > 0) --task.retries_left;
    if (task.actor.is_nil()) {
      scheduling_.enqueue(task, wire::Clock::now(), true);
      arm_tick();
    } else {
      actor_calls_.again(task);
    }
  }
  unlock_and_flush(guard);
  return true;
}

bool Core::fail_task(const TaskId& id, Bytes error_pickle, std::string_view text) {
  Guard guard(mutex_);
  const auto known = tasks_.find(id);
  if (known == tasks_.end()) return false;
  TaskRecord& task = *known->second;
  if (task.state == TaskState::kPushed || task.state == TaskState::kFinished) return false;
  unlink_arguments(task);
  if (task.actor.is_nil()) {
    scheduling_.remove_queued(task);
  } else {
    actor_calls_.remove_queued(task);
  }
  const auto attempt = std::move(task.failed);
  finish_with_error(task, OwnedValue::make(ValueKind::kError, error_pickle, {}),
                    {.object = {}, .attempt = attempt.get(), .text = text});
  unlock_and_flush(guard);
  return true;
}

// ---- actors ----

void Core::actor_connect(const ActorId& actor, std::uint64_t, const WorkerId& worker,
                         const std::string& address) {
  Guard guard(mutex_);
  peer(worker, address);
  actor_calls_.connect(actor, worker);
  unlock_and_flush(guard);
}

void Core::actor_pause(const ActorId& actor) {
  Guard guard(mutex_);
  actor_calls_.pause(actor);
}

std::size_t Core::actor_fail(const ActorId& actor, Bytes error_pickle, std::string_view text) {
  const auto error = OwnedValue::make(ValueKind::kError, error_pickle, {});
  Guard guard(mutex_);
  const auto calls = actor_calls_.fail(actor, error);
  for (TaskRecord* call : calls) {
    unlink_arguments(*call);
    finish_with_error(*call, error, {.text = text});
  }
  unlock_and_flush(guard);
  return calls.size();
}

void Core::actor_set(const ActorId& actor, bool out_of_order) {
  Guard guard(mutex_);
  actor_calls_.set_options(actor, out_of_order);
}

std::size_t Core::actor_pending_calls(const ActorId& actor) {
  Guard guard(mutex_);
  return actor_calls_.pending_calls(actor);
}

// ---- bounds and time ----

void Core::attach_room(wire::Waiter& waiter) {
  Guard guard(mutex_);
  if (has_room()) {
    waiter.complete();
  } else {
    room_waiters_.push_back(&waiter);
  }
}

void Core::detach_room(wire::Waiter& waiter) {
  Guard guard(mutex_);
  room_waiters_.erase(std::remove(room_waiters_.begin(), room_waiters_.end(), &waiter), room_waiters_.end());
}

// Runs while there is anything that time could change: queued tasks or leases held.
void Core::arm_tick() {
  if (tick_armed_ || closed_) return;
  tick_armed_ = true;
  reactor_.call_after(kTick, [this] { tick(); });
}

void Core::tick() {
  Guard guard(mutex_);
  tick_armed_ = false;
  scheduling_.tick(wire::Clock::now());
  if (scheduling_.lease_count() > 0 || scheduling_.queued_count() > 0) arm_tick();
  unlock_and_flush(guard);
}

void Core::arm_event_flush() {
  reactor_.call_after(std::chrono::seconds(1), [this] { flush_task_events(); });
}

}  // namespace aktis::core
