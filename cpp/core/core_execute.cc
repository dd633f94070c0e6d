// The executor's side: tasks that were pushed to this process, until their replies are on the way.
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

}  // namespace

void Core::set_groups(const std::vector<std::string>& groups) {
  Guard guard(mutex_);
  for (const std::string& group : groups) groups_[group];
}

void Core::set_accepting(bool accepting) {
  Guard guard(mutex_);
  accepting_ = accepting;
  for (auto& [name, group] : groups_) {
    for (wire::Waiter* waiter : group.waiting) waiter->complete();
    if (accepting && !group.queue.empty()) bell_.ring();
  }
}

int Core::task_fd() {
  Guard guard(mutex_);
  baton_.set_watched();
  return bell_.open(reactor_.fd());
}

void Core::poll_tasks() {
  flush_all();
  {
    Guard guard(mutex_);
    bell_.quiet();
    bell_.set_loop_polls(true);
  }
  struct Done {
    Core& core;
    ~Done() {
      Guard guard(core.mutex_);
      core.bell_.set_loop_polls(false);
    }
  } const done{*this};
  baton_.poll_now();
}

void Core::set_actor(const ActorId& actor) {
  Guard guard(mutex_);
  actor_ = actor;
}

bool Core::on_task(wire::Connection& connection, const WorkerId& from, Bytes payload) {
  auto task = std::make_shared<IncomingTask>();
  task->payload.assign(payload.begin(), payload.end());
  auto message = decode_task(task->payload);
  if (!message) return false;
  task->message = std::move(*message);
  task->connection = connection.shared_from_this();
  task->owner = from;
  Guard guard(mutex_);
  const bool wrong_actor = task->message.actor != actor_;
  if (draining_ || wrong_actor || (blocked_threads_ > 0 && gives_back())) {
    wire::ByteWriter out;
    encode_give_back(out, wrong_actor ? GiveBackReason::kStolen : GiveBackReason::kBlocked,
                     std::span(&task->message.id, 1));
    queue(task->connection, CoreFrame::kGiveBack, {out.view()}, true);
  } else {
    std::string name(task->message.concurrency_group);
    auto found = groups_.find(name);
    if (found == groups_.end()) found = groups_.try_emplace(std::string{}).first;
    Group& group = found->second;
    group.queue.push_back(std::move(task));
    if (!group.waiting.empty() && accepting_) {
      group.waiting.front()->complete();
      group.waiting.pop_front();
    } else if (accepting_) {
      bell_.ring();
    }
    if (stream_waiters_ > 0) let_streams_make_way();
  }
  unlock_and_flush(guard);
  return true;
}

TaskHandle Core::next_task(const std::string& name, wire::Waiter& waiter) {
  Guard guard(mutex_);
  Group& group = groups_[name];
  if (accepting_ && !group.queue.empty()) {
    TaskHandle task = std::move(group.queue.front());
    group.queue.pop_front();
    taken_.emplace(task->message.id, task);
    return task;
  }
  group.waiting.push_back(&waiter);
  return nullptr;
}

void Core::detach_group(const std::string& name, wire::Waiter& waiter) {
  Guard guard(mutex_);
  Group& group = groups_[name];
  group.waiting.erase(std::remove(group.waiting.begin(), group.waiting.end(), &waiter), group.waiting.end());
  // It may have been woken for a task that it leaves behind.
  if (waiter.completed() && !group.queue.empty() && !group.waiting.empty() && accepting_) {
    group.waiting.front()->complete();
    group.waiting.pop_front();
  }
}

std::vector<TaskHandle> Core::take_tasks(std::size_t limit) {
  std::vector<TaskHandle> taken;
  Guard guard(mutex_);
  if (!accepting_) return taken;
  for (auto& [name, group] : groups_) {
    while (!group.queue.empty() && taken.size() < limit) {
      taken.push_back(std::move(group.queue.front()));
      group.queue.pop_front();
      taken_.emplace(taken.back()->message.id, taken.back());
    }
  }
  return taken;
}

TaskHandle Core::load_creation(Bytes payload) {
  auto task = std::make_shared<IncomingTask>();
  task->payload.assign(payload.begin(), payload.end());
  auto message = decode_task(task->payload);
  if (!message) throw CoreError("the actor's creation task does not decode");
  task->message = std::move(*message);
  std::memcpy(task->owner.data, config_.worker.data, sizeof(task->owner.data));
  return task;
}

void Core::begin_execution(const TaskHandle& task) {
  task->start_unix_ns = unix_ns();
  task->thread = std::this_thread::get_id();
  Guard guard(mutex_);
  if (!task->connection) {
    creation_ = task;
    return;
  }
  running_.emplace(task->message.id, task);
  if (!taken_.empty()) taken_.erase(task->message.id);
  if (task->message.timeout_ms != 0) watch_time(*task);
  // An at-most-once task may only start when the replies before it are on their way: if this worker dies,
  // its owner takes the first task without a reply for the one that ran.
  if ((task->message.flags & kTaskAtMostOnce) != 0) urgent_ = true;
  if (urgent_) unlock_and_flush(guard);
}

bool Core::make_result(const TaskHandle& task, std::uint32_t index, const Parts& parts, const WaitFor& wait,
                       ResultParts& out) {
  out.size_bytes = parts.size();
  out.nested = parts.nested;
  if (out.size_bytes <= limits_.inline_bytes || !task->connection) {
    out.value = OwnedValue::make(parts.kind, parts.inband, parts.buffers);
    return true;
  }
  const ObjectId id = ObjectId::of(task->message.id, index);
  Bytes mapped;
  const Stored stored = store(id, parts, task->owner, wait, mapped);
  if (stored == Stored::kMustWait) return false;
  // Found: an earlier attempt of this task has stored it. Values of one id are interchangeable.
  out.found = stored == Stored::kFound;
  if (!out.found) plasma_->unpin(id);
  plasma_->flush();  // the store must not hear of it from whoever reads the reply first
  out.in_plasma = true;
  return true;
}

// What an earlier attempt has stored is left to the owner, who knows whether another one uses it.
void Core::discard_results(const TaskHandle& task, std::uint32_t first_index,
                           std::span<const ResultParts> results) {
  if ((task->message.flags & kTaskSpeculative) != 0) return;  // the other run may count on what is there
  std::vector<ObjectId> ids;
  for (std::size_t i = 0; i < results.size(); ++i) {
    if (results[i].in_plasma && !results[i].found)
      ids.push_back(ObjectId::of(task->message.id, first_index + static_cast<std::uint32_t>(i)));
  }
  if (ids.empty()) return;
  plasma_->remove(ids);
  plasma_->flush();  // before the next attempt can store them anew
}

void Core::finish(const TaskHandle& task, TaskStatus status, std::vector<ResultParts> results,
                  const std::string& error_text) {
  const TaskMessage& message = task->message;
  ReplyMessage head;
  head.id = message.id;
  head.attempt = message.attempt;
  head.status = status;
  head.start_unix_ns = task->start_unix_ns;
  head.end_unix_ns = unix_ns();
  const TaskEvent event{.task = message.id,
                        .parent = message.parent,
                        .actor = message.actor,
                        .name = message.name,
                        .state = status == TaskStatus::kOk      ? TaskEvents::kFinished
                                 : status == TaskStatus::kError ? TaskEvents::kFailed
                                                                : TaskEvents::kCancelled,
                        .start_unix_ns = head.start_unix_ns,
                        .end_unix_ns = head.end_unix_ns,
                        .attempt = message.attempt,
                        .error = error_text,
                        .is_creation = message.kind == TaskKind::kActorCreation};
  if (task_events_.record(event, head.end_unix_ns)) arm_event_flush();

  std::vector<ObjectId> nested;
  for (const ResultParts& result : results) {
    for (const RefId& ref : result.nested) nested.push_back(ref.id);
  }
  Guard guard(mutex_);
  count_blocked(*task, -task->blocked_threads, -task->told_threads);
  task->ended = true;
  if (!task->connection) {
    creation_ = nullptr;
    return unlock_and_flush(guard);
  }
  running_.erase(message.id);
  let_stream_go_on(*task, kEverything);  // a thread may wait for its consumer although it was cancelled
  if (!nested.empty()) head.hold = references_.hold_return(task->owner, nested);
  wire::ByteWriter out;
  encode_reply_head(out, head, static_cast<std::uint16_t>(results.size()));
  for (const ResultParts& result : results) {
    encode_return(out, result.in_plasma, result.size_bytes, result.in_plasma ? Bytes{} : result.value->view(),
                  result.nested);
  }
  drain_drops();
  if (!references_.end_task(message.id)) {
    held_replies_.emplace(message.id, HeldReply{task, out.take()});
  } else {
    send_reply(task, out.view());
  }
  settle_references();
  unlock_and_flush(guard);
}

// At once when nothing else is queued here; else a short task's reply may wait for the next ones.
void Core::send_reply(const TaskHandle& task, Bytes reply) {
  const auto now = wire::Clock::now();
  const bool alone = std::all_of(groups_.begin(), groups_.end(),
                                 [](const auto& group) { return group.second.queue.empty(); });
  const bool urgent =
      alone || (task->message.flags & kTaskAtMostOnce) != 0 || now - last_reply_flush_ > kReplyCompany;
  if (urgent) last_reply_flush_ = now;
  queue(task->connection, CoreFrame::kTaskReply, {reply}, urgent);
}

// Hands every task that has not started back to its owner.
void Core::give_back_queued() {
  if (!gives_back()) return;
  std::unordered_map<wire::Connection*, std::pair<TaskHandle, std::vector<TaskId>>> by_owner;
  for (auto& [name, group] : groups_) {
    for (TaskHandle& task : std::exchange(group.queue, {})) {
      auto& [first, ids] = by_owner[task->connection.get()];
      ids.push_back(task->message.id);
      if (!first) first = std::move(task);
    }
  }
  for (const auto& [connection, given] : by_owner) {
    wire::ByteWriter out;
    encode_give_back(out, GiveBackReason::kBlocked, given.second);
    queue(given.first->connection, CoreFrame::kGiveBack, {out.view()}, true);
  }
}

bool Core::on_steal(wire::Connection& connection, Bytes payload) {
  const auto message = decode_steal(payload);
  if (!message) return false;
  std::vector<TaskId> given;
  auto& queue_of_all = groups_[std::string{}].queue;
  // From the back: what would run last here.
  for (auto task = queue_of_all.end(); task != queue_of_all.begin() && given.size() < message->count;) {
    --task;
    if ((*task)->connection.get() != &connection) continue;
    given.push_back((*task)->message.id);
    task = queue_of_all.erase(task);
  }
  std::reverse(given.begin(), given.end());
  wire::ByteWriter out;
  encode_give_back(out, GiveBackReason::kStolen, given);
  queue(connection.shared_from_this(), CoreFrame::kGiveBack, {out.view()}, true);
  return true;
}

bool Core::on_cancel(wire::Connection& connection, Bytes payload) {
  const auto message = decode_cancel(payload);
  if (!message) return false;
  const TaskId id = message->id;
  for (auto& [name, group] : groups_) {
    const auto queued = std::find_if(group.queue.begin(), group.queue.end(),
                                     [&](const TaskHandle& task) { return task->message.id == id; });
    if (queued == group.queue.end() || (*queued)->connection.get() != &connection) continue;
    const TaskHandle task = *queued;
    group.queue.erase(queued);
    ReplyMessage head;
    head.id = id;
    head.attempt = task->message.attempt;
    head.status = TaskStatus::kCancelled;
    wire::ByteWriter out;
    encode_reply_head(out, head, 0);
    queue(task->connection, CoreFrame::kTaskReply, {out.view()}, true);
    return true;
  }
  for (const auto* tasks : {&running_, &taken_}) {
    const auto found = tasks->find(id);
    if (found == tasks->end()) continue;
    found->second->cancelled = true;
    events_.push({.kind = EventKind::kCancel, .first = id.binary(), .number = message->recursive ? 1 : 0});
  }
  return true;
}

// The owner is dead: nobody wants the results of what it had queued here.
void Core::drop_tasks_of(const WorkerId& owner) {
  for (auto& [name, group] : groups_) {
    auto& queue_of_group = group.queue;
    queue_of_group.erase(std::remove_if(queue_of_group.begin(), queue_of_group.end(),
                                        [&](const TaskHandle& task) { return task->owner == owner; }),
                         queue_of_group.end());
  }
  for (const auto& [id, task] : running_) {
    if (task->owner == owner) let_stream_go_on(*task, kEverything);
  }
  std::erase_if(held_replies_, [&](const auto& held) { return held.second.task->owner == owner; });
}

}  // namespace aktis::core
